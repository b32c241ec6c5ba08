package lab

import (
	"context"
	"fmt"
	"iter"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
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
// history: no worker has to be up to answer.
func (c *Client) Input(ctx context.Context, e Execution, in any) error {
	for event, err := range c.History(ctx, e) {
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

func decode(p *commonpb.Payloads, v any) error {
	return converter.GetDefaultDataConverter().FromPayloads(p, v)
}
