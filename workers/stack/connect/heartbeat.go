package connect

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// heartbeatAgain is the pause before a heartbeat that failed is tried again.
const heartbeatAgain = time.Second

// keepBeating lets no activity end because a heartbeat failed. The SDK cancels an
// activity whose heartbeat could not be delivered within the throttle interval,
// though the server may not have missed it yet (temporalio/sdk-go#2131). Here it is
// tried again for as long as the SDK waits, and counts as delivered then: the next
// one follows, after a pause as long, through which this one is tried on. Whether an
// activity was silent for too long is the server's to say, and it does by not knowing
// the activity any more.
func keepBeating(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method != workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	began := time.Now()
	delivered, err := beat(ctx, func(ctx context.Context) error { return invoke(ctx, method, req, reply, cc, opts...) })
	if !delivered && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		on, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Since(began))
		go func() {
			defer stop()
			// The next heartbeat hears what the server says.
			_, _ = beat(on, func(ctx context.Context) error {
				return invoke(ctx, method, req, new(workflowservice.RecordActivityTaskHeartbeatResponse), cc)
			})
		}()
	}
	return err
}

// beat sends a heartbeat until it has an answer, which may be that the activity is
// unknown, or until the context ends, which is no error.
func beat(ctx context.Context, send func(context.Context) error) (delivered bool, err error) {
	for {
		if err := send(ctx); err == nil || status.Code(err) == codes.NotFound {
			return true, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(heartbeatAgain):
		}
	}
}
