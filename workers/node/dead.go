package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/esclab/esclab/workflows"
)

// giveBackLimit bounds the time that a start takes for giveBack.
const giveBackLimit = 10 * time.Second

var errKilled = errors.New("its worker was killed")

// giveBack ends the attempts that workers of this machine had under way when they
// were killed, so that their stages go on at once and not after the heartbeat
// timeout. It is for an embedded Temporal, whose workers' processes this one can
// see: elsewhere two machines may go by one name.
func (n *Node) giveBack(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, giveBackLimit)
	defer stop()
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", workflows.StageName),
	}
	for {
		page, err := n.Client.ListWorkflow(ctx, request)
		if err != nil {
			return fmt.Errorf("list the running stages: %w", err)
		}
		for _, e := range page.GetExecutions() {
			id, run := e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId()
			d, err := n.Client.DescribeWorkflowExecution(ctx, id, run)
			if err != nil {
				return fmt.Errorf("describe workflow %s: %w", id, err)
			}
			for _, p := range d.GetPendingActivities() {
				if p.GetState() != enums.PENDING_ACTIVITY_STATE_STARTED || !killed(p.GetLastWorkerIdentity()) {
					continue
				}
				if err := n.Client.CompleteActivityByID(ctx, n.namespace, id, run, p.GetActivityId(), nil, errKilled); err != nil {
					return fmt.Errorf("give back %s: %w", id, err)
				}
				n.log.Info().Str("workflow", id).Str("worker", p.GetLastWorkerIdentity()).Msg("its worker was killed; it goes on")
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return nil
		}
	}
}

// killed tells whether a worker's identity (pid@host) is of this machine and its
// process is gone.
func killed(identity string) bool {
	pid, host, _ := strings.Cut(identity, "@")
	id, err := strconv.Atoi(pid)
	return err == nil && host == hostname() && !alive(id)
}
