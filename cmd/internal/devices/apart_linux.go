package devices

import "syscall"

// apart has a child in a process group of its own, and stops it where this process dies.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
