package activities

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// hostname is this machine's, "" where it has none.
func hostname() string {
	name, _ := os.Hostname() // without one there is none to tell
	return name
}

// load is how many processes ran or wanted to over the last minute, on average; nil
// where the system does not tell.
func load() *float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil { // Linux alone has it
		return nil
	}
	var minute float64
	if _, err := fmt.Sscan(string(raw), &minute); err != nil {
		return nil
	}
	return &minute
}

// hardware names the processor and its cores: "AMD EPYC 9654, 8 cores, linux/amd64".
// An accelerator stands in the engine's name.
func hardware() string {
	model := ""
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err == nil { // Linux alone has it
		for line := range strings.Lines(string(raw)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s/%s", cmp.Or(model, "unknown processor"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}
