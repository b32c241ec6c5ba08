package stack

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/esclab/esclab/internal/freeport"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
)

// loopback is the interface that the servers listen on, in plain text. Other
// machines come through a gate.
const loopback = "127.0.0.1"

// choosePort returns want if it is free, or a free port where want is auto.
func choosePort(want settings.Port, service string) (int, error) {
	if want == 0 {
		return freeport.Port()
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(loopback, strconv.Itoa(int(want))))
	if err != nil {
		detail := fmt.Sprintf("port %d for %s cannot be used (%v)", int(want), service, err)
		if errors.Is(err, unix.EADDRINUSE) {
			detail = fmt.Sprintf("port %d for %s is in use by another process", int(want), service)
		}
		return 0, &connect.Problem{Detail: detail, Err: err,
			Remedy: fmt.Sprintf("stop that process, or set embedded.ports.%s in temporal.yaml (auto picks a free port)", service)}
	}
	defer l.Close()
	return int(want), nil
}

// freePorts returns n distinct free ports for servers that no one addresses.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		port, err := freeport.Port()
		if err != nil {
			return nil, err
		}
		ports[i] = port
	}
	return ports, nil
}
