// Package devices runs a worker for each device of a machine: the program again with the same arguments, told by
// CUDA_VISIBLE_DEVICES which device it has.
package devices

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Flag is the name of the flag that lists devices, Usage what it says.
const (
	Flag  = "devices"
	Usage = "run a worker for each of these devices, like 0-7 or 0,2: numbers among those that $CUDA_VISIBLE_DEVICES lists, where it is set"
)

// envVisible tells CUDA which devices a process sees: numbers, or names such as GPU-8f6e… and MIG-….
const envVisible = "CUDA_VISIBLE_DEVICES"

// most bounds a list: no machine has more devices, and a slip of the keyboard starts no thousand processes.
const most = 64

// list reads numbers and ranges ("0-3,6"). The numbers count the devices that visible lists, in its order; where it is
// empty, the machine's. The result is what each device is called in CUDA_VISIBLE_DEVICES.
func list(spec, visible string) ([]string, error) {
	var names []string
	if visible != "" {
		names = strings.Split(visible, ",")
	}
	var devices []string
	for part := range strings.SplitSeq(spec, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, errTo := strconv.Atoi(last)
		if err != nil || errTo != nil || from < 0 || to < from || to-from >= most {
			return nil, fmt.Errorf("--%s %s: %q is no device: give numbers and ranges, like 0-7 or 0,2", Flag, spec, part)
		}
		for i := from; i <= to; i++ {
			name := strconv.Itoa(i)
			if names != nil {
				if i >= len(names) {
					return nil, fmt.Errorf("--%s %s: there is no device %d among the %d that %s lists (%s)", Flag, spec, i, len(names), envVisible, visible)
				}
				name = strings.TrimSpace(names[i])
			}
			if slices.Contains(devices, name) {
				return nil, fmt.Errorf("--%s %s: device %s comes twice", Flag, spec, name)
			}
			devices = append(devices, name)
		}
	}
	return devices, nil
}

// without takes a flag and its value out of arguments.
func without(args []string, flag string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--"+flag:
			i++
		case !strings.HasPrefix(args[i], "--"+flag+"="):
			kept = append(kept, args[i])
		}
	}
	return kept
}

// nth is the address that the n-th worker serves metrics on: the port goes up by one from worker to worker.
func nth(address string, n int) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("--metrics %s: %w", address, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil || number+n > 65535 {
		return "", fmt.Errorf("--metrics %s: the port must be a number, with a free one behind it for each device", address)
	}
	if number > 0 { // 0 takes any that is free
		number += n
	}
	return net.JoinHostPort(host, strconv.Itoa(number)), nil
}
