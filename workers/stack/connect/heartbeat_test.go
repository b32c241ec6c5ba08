package connect

import (
	"context"
	"testing"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A heartbeat that fails is tried again and ends no activity; what the server says
// of an activity that it does not know does. Other calls fail as they do.
func TestKeepBeating(t *testing.T) {
	const heartbeat = workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName
	for _, c := range []struct {
		name, method string
		answers      []codes.Code // one a try; the last stays
		cancelled    bool         // in the last try
		calls        int
		want         codes.Code
	}{
		{"heard", heartbeat, []codes.Code{codes.OK}, false, 1, codes.OK},
		{"heard at the second try", heartbeat, []codes.Code{codes.Unavailable, codes.OK}, false, 2, codes.OK},
		{"never heard", heartbeat, []codes.Code{codes.DeadlineExceeded}, true, 1, codes.OK},
		{"unknown to the server", heartbeat, []codes.Code{codes.NotFound}, false, 1, codes.NotFound},
		{"another call", workflowservice.WorkflowService_RespondActivityTaskCompleted_FullMethodName, []codes.Code{codes.Unavailable}, false, 1, codes.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			calls := 0
			err := keepBeating(ctx, c.method, nil, nil, nil, func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				answer := c.answers[min(calls, len(c.answers)-1)]
				calls++
				if c.cancelled {
					stop()
				}
				return status.Error(answer, "test")
			})
			if got := status.Code(err); got != c.want || calls != c.calls {
				t.Errorf("%v after %d calls, want %v after %d", got, calls, c.want, c.calls)
			}
		})
	}
}
