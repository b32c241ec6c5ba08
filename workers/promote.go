package workers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
)

// promoteWait is how long Temporal may take to hear of a new build's workers.
const promoteWait = 30 * time.Second

// Promote makes new runs start on a build from now on, whose workers have
// started to poll; what is running stays where it is. Without force it does so
// only where the deployment has no current build yet, since nothing would run
// there otherwise. It reports the build on which new runs start.
func Promote(ctx context.Context, c client.Client, v worker.WorkerDeploymentVersion, force bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, promoteWait)
	defer cancel()
	deployment := c.WorkerDeploymentClient().GetHandle(v.DeploymentName)
	for {
		current, err := promote(ctx, deployment, v, force)
		if err == nil {
			return current, nil
		}
		// The deployment and its build come into being with the first poll.
		var missing *serviceerror.NotFound
		var early *serviceerror.FailedPrecondition
		if !errors.As(err, &missing) && !errors.As(err, &early) {
			return "", fmt.Errorf("make %s the current build of deployment %s: %w", v.BuildID, v.DeploymentName, err)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("make %s the current build of deployment %s: %w: do its workers poll?", v.BuildID, v.DeploymentName, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func promote(ctx context.Context, deployment client.WorkerDeploymentHandle, v worker.WorkerDeploymentVersion, force bool) (string, error) {
	d, err := deployment.Describe(ctx, client.WorkerDeploymentDescribeOptions{})
	if err != nil {
		return "", err
	}
	if current := d.Info.RoutingConfig.CurrentVersion; current != nil && (!force || *current == v) {
		return current.BuildID, nil
	}
	_, err = deployment.SetCurrentVersion(ctx, client.WorkerDeploymentSetCurrentVersionOptions{
		BuildID: v.BuildID, ConflictToken: d.ConflictToken,
		IgnoreMissingTaskQueues: true, // a worker of some queues may be promoted before the others start
	})
	return v.BuildID, err
}
