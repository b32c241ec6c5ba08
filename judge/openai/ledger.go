package openai

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrBudget: the next request could cost more than the budget has left.
var ErrBudget = errors.New("the judge's budget is spent")

// Budget bounds what is spent; 0 is no bound.
type Budget struct {
	Calls  int     // requests sent, those that failed included
	Tokens int     // of prompts and replies
	Money  float64 // in the currency of the prices
}

// Prices of a million tokens.
type Prices struct {
	Prompt, Completion float64
}

// Usage counts a request's tokens.
type Usage struct {
	Prompt, Completion int
}

// Spent is what requests have cost so far.
type Spent struct {
	Calls  int     `json:"calls"`
	Tokens int     `json:"tokens"`
	Money  float64 `json:"money,omitempty"`
}

// Ledger keeps a budget. A request reserves the most that it can cost before it
// is sent and is settled afterwards, so that requests side by side cannot pass
// the bounds together. It is safe for concurrent use.
type Ledger struct {
	budget Budget
	prices Prices

	mu       sync.Mutex
	spent    Spent // settled
	reserved Spent // of requests under way
	changed  chan struct{}
}

// NewLedger returns a ledger that has spent some of its budget already.
func NewLedger(b Budget, p Prices, spent Spent) *Ledger {
	return &Ledger{budget: b, prices: p, spent: spent, changed: make(chan struct{})}
}

// Spent returns what was spent, that of earlier attempts included.
func (l *Ledger) Spent() Spent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spent
}

func (l *Ledger) cost(u Usage) Spent {
	return Spent{Calls: 1, Tokens: u.Prompt + u.Completion,
		Money: (float64(u.Prompt)*l.prices.Prompt + float64(u.Completion)*l.prices.Completion) / 1e6}
}

func (s Spent) plus(o Spent, sign int) Spent {
	return Spent{s.Calls + sign*o.Calls, s.Tokens + sign*o.Tokens, s.Money + float64(sign)*o.Money}
}

// exceeds names the bound that s passes, "" if none.
func (b Budget) exceeds(s Spent) string {
	switch {
	case b.Calls > 0 && s.Calls > b.Calls:
		return fmt.Sprintf("%d calls", b.Calls)
	case b.Tokens > 0 && s.Tokens > b.Tokens:
		return fmt.Sprintf("%d tokens", b.Tokens)
	case b.Money > 0 && s.Money > b.Money*(1+1e-9): // sums of many small prices
		return fmt.Sprintf("%g of money", b.Money)
	}
	return ""
}

// reserve takes a request's most from the budget. While others are under way
// that may cost less than they reserved, it waits for them.
func (l *Ledger) reserve(ctx context.Context, most Usage) (*bill, error) {
	cost := l.cost(most)
	for {
		l.mu.Lock()
		bound := l.budget.exceeds(l.spent.plus(l.reserved, 1).plus(cost, 1))
		if bound == "" {
			l.reserved = l.reserved.plus(cost, 1)
			l.mu.Unlock()
			return &bill{l, cost}, nil
		}
		alone, spent, changed := l.reserved.Calls == 0, l.spent, l.changed
		l.mu.Unlock()
		if alone {
			return nil, fmt.Errorf("%w: %d calls, %d tokens and %.4f of money are spent, and another request could pass the bound of %s; "+
				"what was answered is kept: raise judge.budget or run again, and it goes on from there", ErrBudget, spent.Calls, spent.Tokens, spent.Money, bound)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

// bill is a reservation.
type bill struct {
	ledger *Ledger
	most   Spent
}

// settle replaces the reservation by what the request used.
func (b *bill) settle(u Usage) { b.close(b.ledger.cost(u)) }

// cancel gives the reservation back: nothing was sent.
func (b *bill) cancel() { b.close(Spent{}) }

func (b *bill) close(cost Spent) {
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved = l.reserved.plus(b.most, -1)
	if l.reserved.Calls == 0 {
		l.reserved = Spent{} // no remainders of sums of money
	}
	l.spent = l.spent.plus(cost, 1)
	close(l.changed)
	l.changed = make(chan struct{})
}
