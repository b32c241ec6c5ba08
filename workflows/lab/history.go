package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/esclab/esclab/workflows"
)

// History gives the events of an execution, page by page; an execution has at
// least one. An error ends it.
func (c *Client) History(ctx context.Context, e Execution) iter.Seq2[*history.HistoryEvent, error] {
	return func(yield func(*history.HistoryEvent, error) bool) {
		events := c.Temporal.GetWorkflowHistory(ctx, e.ID, e.RunID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for none := true; none || events.HasNext(); none = false {
			if !events.HasNext() {
				yield(nil, unreachable("%s has no history", e.ID))
				return
			}
			event, err := events.Next()
			if err != nil {
				yield(nil, unreachable("history of %s: %w", e.ID, err))
				return
			}
			if !yield(event, nil) {
				return
			}
		}
	}
}

// Input reads what an execution was started with from the first event of its
// history, or from what it has left in the store: no worker has to be up to answer.
func (c *Client) Input(ctx context.Context, e Execution, in any) error {
	if e.Kept {
		return c.keptInput(ctx, e, in)
	}
	for event, err := range c.History(ctx, e) {
		if forgotten(err) { // since it was listed
			return c.keptInput(ctx, e, in)
		}
		if err != nil {
			return err
		}
		if err := decode(event.GetWorkflowExecutionStartedEventAttributes().GetInput(), in); err != nil {
			return fmt.Errorf("%s: what it was started with: %w", e.ID, err)
		}
		break
	}
	return nil
}

func (c *Client) keptInput(ctx context.Context, e Execution, in any) error {
	kept, err := c.kept(ctx, e)
	if err == nil {
		err = json.Unmarshal(kept.Input, in)
	}
	return failed(err)
}

// OriginOf says who has started an execution; it is zero where that was not noted.
func (c *Client) OriginOf(ctx context.Context, e Execution) (workflows.Origin, error) {
	var in struct {
		Origin workflows.Origin `json:"origin"`
	}
	err := c.Input(ctx, e, &in)
	return in.Origin, err
}

func decode(p *commonpb.Payloads, v any) error {
	return converter.GetDefaultDataConverter().FromPayloads(p, v)
}
