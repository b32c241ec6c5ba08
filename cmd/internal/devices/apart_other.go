//go:build unix && !linux

package devices

import "syscall"

// apart has a child in a process group of its own.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
