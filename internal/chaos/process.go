package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Process is a program that is started again whenever it ends, until Stop. What
// it writes goes to a file for each start: NAME.START.log.
type Process struct {
	Name    string
	Command func() *exec.Cmd                // makes the command line of one start
	Ready   func(ctx context.Context) error // nil once it serves; may be nil
	Logs    string                          // directory

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has ended
	start   int           // counts from 1
	away    time.Duration // before the next start; 0: restartPause
	stopped bool
	own     int // how often it ended without having been told to
	done    chan struct{}
}

// restartPause is how long a process that ended by itself stays away.
const restartPause = 500 * time.Millisecond

// Start starts the process, watches over it, and waits until it is ready.
func (p *Process) Start(ctx context.Context) error {
	p.done = make(chan struct{})
	if err := p.spawn(); err != nil {
		return err
	}
	go p.watch()
	return p.WaitReady(ctx)
}

// WaitReady waits until the process serves.
func (p *Process) WaitReady(ctx context.Context) error {
	for p.Ready != nil {
		err := p.Ready(ctx)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.Name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func (p *Process) spawn() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.start++
	log, err := os.Create(LogFile(p.Logs, p.Name, p.start))
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd := p.Command()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.away = cmd, ended, 0
	go func() {
		_ = cmd.Wait() // its exit status does not matter; the log says why it ended
		close(ended)
	}()
	return nil
}

// LogFile is the file of a process's nth start.
func LogFile(dir, name string, start int) string {
	return filepath.Join(dir, fmt.Sprintf("%s.%03d.log", name, start))
}

func (p *Process) watch() {
	defer close(p.done)
	for {
		p.mu.Lock()
		ended := p.ended
		p.mu.Unlock()
		<-ended
		p.mu.Lock()
		away, stopped := p.away, p.stopped
		if away == 0 && !stopped {
			p.own++
			away = restartPause
		}
		p.mu.Unlock()
		if stopped {
			return
		}
		time.Sleep(away)
		p.mu.Lock()
		stopped = p.stopped
		p.mu.Unlock()
		if stopped || p.spawn() != nil {
			return
		}
	}
}

// Number says which start of the process runs, or ran last.
func (p *Process) Number() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start
}

// Alive says whether a start of the process runs.
func (p *Process) Alive(start int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.start != start {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// PID is the process that runs, or ran last.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Failures is how often the process has ended without having been told to.
func (p *Process) Failures() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.own
}

// Signal sends a signal to the process that runs.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Signal(s)
}

// End sends SIGKILL or SIGTERM, waits until the process has ended, and has it
// started again after a while.
func (p *Process) End(s syscall.Signal, away time.Duration) error {
	p.mu.Lock()
	ended := p.ended
	p.away = max(away, time.Millisecond)
	err := p.cmd.Process.Signal(s)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s to %s: %w", s, p.Name, err)
	}
	<-ended
	return nil
}

// Stop ends the process for good: SIGTERM, and after a while SIGKILL.
func (p *Process) Stop() {
	if p.done == nil {
		return
	}
	p.mu.Lock()
	p.stopped = true
	ended := p.ended
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	p.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(40 * time.Second):
		p.mu.Lock()
		_ = p.cmd.Process.Kill()
		p.mu.Unlock()
	}
	<-p.done
}
