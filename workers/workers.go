// Package workers polls the task queues: which queues a process serves, with
// how many slots, and how it stops.
package workers

import (
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// DefaultStopTimeout is enough for a step and a save of a small model.
const DefaultStopTimeout = 30 * time.Second

// DefaultHeartbeatThrottle is a quarter of the shortest heartbeat timeout that is
// usual across machines: some may be lost, and few are paid for.
const DefaultHeartbeatThrottle = 15 * time.Second

// Options says what a process works on.
type Options struct {
	Client     client.Client
	Activities workflows.Activities
	// Stages has the activity of every kind of stage.
	Stages map[experiments.Kind]workflows.StageActivity
	Queues workflows.Queues
	// Serve lists the classes of queues to poll: experiments.QueueControl,
	// QueueCPU, QueueGPU. Empty means all of them.
	Serve []experiments.Queue
	// KernelSlots is the number of kernel stages at the same time, one per
	// device; 0 means 1.
	KernelSlots int
	// CPUSlots is the number of stages without kernels at the same time; 0 means 2.
	CPUSlots int
	// ControlSlots is the number of short activities of workflows at the same time; 0
	// means the SDK's default.
	ControlSlots int
	// StopTimeout is the time an interrupted stage has to save its
	// checkpoint: more than one step and one save. 0 means DefaultStopTimeout.
	StopTimeout time.Duration
	// HeartbeatThrottle is the least time between two heartbeats of an activity;
	// 0 means DefaultHeartbeatThrottle.
	HeartbeatThrottle time.Duration
	// Identity is shown in the web UI.
	Identity string
	// Failed is told the queue and the reason where a poller has ended for
	// good, as one whose namespace was deleted does; nil: nobody is.
	Failed func(queue string, err error)
	// Version is the build that these workers are, in a Worker Deployment: what
	// a run does stays on the build that started it. Zero: no versioning.
	Version worker.WorkerDeploymentVersion
}

// Workers are the pollers of one process.
type Workers struct {
	running []worker.Worker
}

// Start begins to poll. The workflows run where the control queue is served.
func Start(o Options) (*Workers, error) {
	if len(o.Serve) == 0 {
		o.Serve = []experiments.Queue{experiments.QueueControl, experiments.QueueCPU, experiments.QueueGPU}
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	if o.HeartbeatThrottle == 0 {
		o.HeartbeatThrottle = DefaultHeartbeatThrottle
	}
	w := &Workers{}
	for _, class := range o.Serve {
		opts := o.worker(class)
		if o.Failed != nil {
			opts.OnFatalError = func(err error) { o.Failed(o.Queues.Queue(class), err) }
		}
		one := worker.New(o.Client, o.Queues.Queue(class), opts)
		if class == experiments.QueueControl {
			for name, fn := range workflows.Registered() {
				one.RegisterWorkflowWithOptions(fn, workflow.RegisterOptions{Name: name})
			}
		}
		one.RegisterActivityWithOptions(o.Activities, activity.RegisterOptions{SkipInvalidStructFunctions: true})
		for kind, stage := range o.Stages {
			one.RegisterActivityWithOptions(stage, activity.RegisterOptions{Name: kind.Activity()})
		}
		if err := one.Start(); err != nil {
			w.Stop()
			return nil, fmt.Errorf("start the worker of task queue %s: %w", o.Queues.Queue(class), err)
		}
		w.running = append(w.running, one)
	}
	return w, nil
}

// worker gives the SDK's options for one class of queue.
func (o Options) worker(class experiments.Queue) worker.Options {
	opts := worker.Options{
		Identity:          o.Identity,
		WorkerStopTimeout: o.StopTimeout,
		// The SDK's other bound, four fifths of the heartbeat timeout, would let
		// none get lost.
		DefaultHeartbeatThrottleInterval: o.HeartbeatThrottle,
		MaxHeartbeatThrottleInterval:     o.HeartbeatThrottle,
	}
	if o.Version.BuildID != "" {
		opts.DeploymentOptions = worker.DeploymentOptions{
			UseVersioning: true, Version: o.Version, DefaultVersioningBehavior: workflow.VersioningBehaviorPinned,
		}
	}
	switch class {
	case experiments.QueueControl:
		opts.MaxConcurrentActivityExecutionSize = o.ControlSlots
	case experiments.QueueGPU:
		opts.DisableWorkflowWorker = true
		opts.MaxConcurrentActivityExecutionSize = max(o.KernelSlots, 1)
	case experiments.QueueCPU:
		opts.DisableWorkflowWorker = true
		opts.MaxConcurrentActivityExecutionSize = o.CPUSlots
		if o.CPUSlots == 0 {
			opts.MaxConcurrentActivityExecutionSize = 2
		}
	}
	return opts
}

// Stop stops polling, asks running activities to checkpoint and waits for
// them, StopTimeout at most.
func (w *Workers) Stop() {
	var stopped sync.WaitGroup
	for _, one := range w.running {
		stopped.Go(one.Stop) // together: a preempted machine has one StopTimeout, not three
	}
	stopped.Wait()
	w.running = nil
}
