package connect

import (
	"context"
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
// one follows. Whether an activity was silent for too long is the server's to say,
// and it does by not knowing the activity any more.
func keepBeating(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method != workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	for {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err == nil || status.Code(err) == codes.NotFound {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(heartbeatAgain):
		}
	}
}
