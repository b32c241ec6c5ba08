package connect

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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

// While the SDK pauses after a heartbeat that nobody has heard, it is tried on, and
// only so long.
func TestKeepBeatingOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waits = 9500 * time.Millisecond // not a multiple of heartbeatAgain
		began := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), waits)
		defer stop()
		var last time.Duration
		err := keepBeating(ctx, workflowservice.WorkflowService_RecordActivityTaskHeartbeat_FullMethodName, nil, nil, nil,
			func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				last = time.Since(began)
				if ctx.Err() != nil {
					t.Errorf("tried after %s with a context that has ended", last)
				}
				return status.Error(codes.Unavailable, "test")
			})
		if took := time.Since(began); err != nil || took != waits {
			t.Errorf("%v after %s, want no error after %s", err, took, waits)
		}
		time.Sleep(3 * waits)
		synctest.Wait()
		if last <= waits || last >= 2*waits {
			t.Errorf("tried last after %s, want it between %s and %s", last, waits, 2*waits)
		}
	})
}
