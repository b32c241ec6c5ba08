package node

import (
	"context"
	"fmt"
	"sync"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workers/telemetry"
	"github.com/esclab/esclab/workflows"
)

var _ telemetry.Health = (*Node)(nil)

// health is what a node knows of its pollers.
type health struct {
	mu       sync.Mutex
	identity string
	unseen   []string // queues on which Temporal has not seen our poller yet
	fatal    error
}

// works records which queues are polled from now on.
func (h *health) works(identity string, queues workflows.Queues, serve []experiments.Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(serve) == 0 {
		serve = []experiments.Queue{experiments.QueueControl, experiments.QueueCPU, experiments.QueueGPU}
	}
	h.identity, h.unseen = identity, nil
	for _, class := range serve {
		h.unseen = append(h.unseen, queues.Queue(class))
	}
}

// failed records that a poller has ended for good.
func (h *health) failed(queue string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fatal = fmt.Errorf("task queue %s is polled no longer: %w", queue, err)
}

// Alive implements telemetry.Health: a process whose poller has ended can only
// be started again.
func (n *Node) Alive() error {
	n.health.mu.Lock()
	defer n.health.mu.Unlock()
	return n.health.fatal
}

// Ready implements telemetry.Health: Temporal and the store answer, and
// Temporal has seen a poller of this process on each of its queues. It is enough
// that it has seen each once, because a worker whose slots are all taken does not
// poll although it works.
func (n *Node) Ready(ctx context.Context) error {
	if _, err := n.Client.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		return fmt.Errorf("temporal: %w", err)
	}
	if err := n.Store.Reach(ctx); err != nil {
		return err
	}
	n.health.mu.Lock()
	identity, unseen := n.health.identity, n.health.unseen
	n.health.mu.Unlock()
	for _, queue := range unseen {
		d, err := n.Client.DescribeTaskQueue(ctx, queue, enums.TASK_QUEUE_TYPE_ACTIVITY)
		if err != nil {
			return fmt.Errorf("temporal: describe task queue %s: %w", queue, err)
		}
		seen := false
		for _, p := range d.GetPollers() {
			seen = seen || p.GetIdentity() == identity
		}
		if !seen {
			return fmt.Errorf("task queue %s is not polled yet", queue)
		}
	}
	n.health.mu.Lock()
	n.health.unseen = nil
	n.health.mu.Unlock()
	return nil
}
