package artifacts

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Claim says who wants a stage.
type Claim struct {
	// Owner names the execution of the stage, the same for all its attempts
	// (a workflow ID and an activity ID).
	Owner string
	// Attempt counts the attempts of Owner from 1. A higher attempt takes the
	// stage over at once: the workflow engine starts one only when it has given
	// the one before up.
	Attempt int
	// Realm names whom the caller can speak for, such as a workflow engine and its
	// namespace; "" is a realm, too.
	Realm string
	// Worker is who works on it, for people.
	Worker string
	// Steal takes the stage over from any other of the same realm, or of one that
	// named none. It is right for a caller that knows there is no other execution of
	// the stage in its realm. A stranger's lease it has to wait for.
	Steal bool
	// TTL is how long the lease holds without Renew; 0 means 2 minutes. It has
	// to be well above the difference between the clocks of the hosts; that
	// difference costs waiting or work done twice, never a wrong artifact.
	TTL time.Duration
	// Keep is how many complete checkpoints SaveCheckpoint leaves; 0 means 2,
	// so that there is one to fall back to.
	Keep int
}

const (
	defaultTTL  = 2 * time.Minute
	defaultKeep = 2
	// acquireTries bounds how often a call starts over because others
	// interfered; each time one of them has made progress.
	acquireTries = 10
)

// Lease is the right to write checkpoints and the artifact of one stage.
//
// Leases are objects named by an increasing token, created with PutIfAbsent;
// the highest token holds the stage. A takeover is thus visible to the holder
// before, and whatever it still writes carries its own lower token and cannot
// meet what the new holder writes. This asks of the backend only that one
// conditional write.
//
// Its methods may be called from several goroutines, except SaveCheckpoint.
type Lease struct {
	store       *Store
	fingerprint string
	record      leaseRecord // as acquired
	ttl         time.Duration
	keep        int

	mu       sync.Mutex // while the record is rewritten
	released bool       // for good: what renews it may be late
}

type leaseRecord struct {
	Token    int64     `json:"token"`
	Owner    string    `json:"owner"`
	Realm    string    `json:"realm,omitempty"`
	Worker   string    `json:"worker,omitempty"`
	Attempt  int       `json:"attempt"`
	Expires  time.Time `json:"expires"`
	Released bool      `json:"released,omitempty"`
	// Nonce tells the caller's own write from another's when the answer to the
	// write was lost. It is no part of any artifact.
	Nonce string `json:"nonce"`
}

// HeldError says who holds a stage. It wraps ErrLeaseHeld.
type HeldError struct {
	Fingerprint string
	Owner       string
	Realm       string
	Worker      string
	Attempt     int
	Token       int64
	Expires     time.Time
}

func (e *HeldError) Error() string {
	by := e.Owner
	for _, more := range []struct{ of, name string }{{"worker", e.Worker}, {"Temporal", e.Realm}} {
		if more.name != "" {
			by += ", " + more.of + " " + more.name
		}
	}
	return fmt.Sprintf("stage %.12s is held by %s, attempt %d, until %s (token %d); try again then",
		e.Fingerprint, by, e.Attempt, e.Expires.Format(time.RFC3339), e.Token)
}

func (e *HeldError) Unwrap() error { return ErrLeaseHeld }

// Acquire takes the stage for the claimant, or returns a HeldError while
// another holds it: that is, until its lease expires, is released or is
// superseded by a later attempt of the same owner, or stolen within its realm.
func (s *Store) Acquire(ctx context.Context, fingerprint string, c Claim) (*Lease, error) {
	l, err := s.acquire(ctx, fingerprint, c)
	if err != nil {
		return nil, fmt.Errorf("acquire stage %.12s: %w", fingerprint, err)
	}
	return l, nil
}

func (s *Store) acquire(ctx context.Context, fingerprint string, c Claim) (*Lease, error) {
	if err := validDigest("fingerprint", fingerprint); err != nil {
		return nil, err
	}
	if c.Owner == "" || c.TTL < 0 || c.Keep < 0 {
		return nil, fmt.Errorf("claim without an owner or with a negative TTL or Keep: %+v", c)
	}
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.Keep == 0 {
		c.Keep = defaultKeep
	}
	for range acquireTries {
		now := s.now()
		held, err := s.newestLease(ctx, fingerprint)
		if err != nil {
			return nil, err
		}
		later := held.Owner == c.Owner && held.Realm == c.Realm && c.Attempt > held.Attempt
		steal := c.Steal && (held.Realm == c.Realm || held.Realm == "")
		if held.Token > 0 && !held.Released && held.Expires.After(now) && !later && !steal {
			return nil, &HeldError{fingerprint, held.Owner, held.Realm, held.Worker, held.Attempt, held.Token, held.Expires}
		}
		l := &Lease{store: s, fingerprint: fingerprint, ttl: c.TTL, keep: c.Keep, record: leaseRecord{
			Token: held.Token + 1, Owner: c.Owner, Realm: c.Realm, Worker: c.Worker, Attempt: c.Attempt, Expires: now.Add(c.TTL).UTC(), Nonce: rand.Text(),
		}}
		data, err := encodeJSON(l.record)
		if err != nil {
			return nil, err
		}
		err = s.backend.PutIfAbsent(ctx, leaseKey(fingerprint, l.record.Token), data)
		if err != nil && !errors.Is(err, ErrExists) {
			return nil, err
		}
		// Read the leases again instead of trusting the answer. The write may be
		// ours although it returned ErrExists; and if we were slow, a later
		// holder may have removed the token that we found free.
		newest, err := s.newestLease(ctx, fingerprint)
		if err != nil {
			return nil, err
		}
		if newest.Nonce == l.record.Nonce {
			return l, s.took(ctx, fingerprint, l.record.Token)
		}
	}
	return nil, fmt.Errorf("%w: others keep taking it", ErrLeaseHeld)
}

func leaseKey(fingerprint string, token int64) string {
	return stageKey(fingerprint, "leases", fmt.Sprintf("%010d.json", token))
}

// leaseTokens lists the tokens there are, in no order.
func (s *Store) leaseTokens(ctx context.Context, fingerprint string) ([]int64, error) {
	prefix := stageKey(fingerprint, "leases", "")
	var tokens []int64
	for o, err := range s.backend.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, prefix), ".json")
		if token, err := strconv.ParseInt(name, 10, 64); ok && err == nil && token > 0 {
			tokens = append(tokens, token)
		}
	}
	return tokens, nil
}

// newestLease returns the lease with the highest token, or a zero record. It
// looks at the list of leases, at the token that the last holder has noted, and
// at the ones after: a service's lists may lag behind its writes, what is read
// by its name does not.
func (s *Store) newestLease(ctx context.Context, fingerprint string) (leaseRecord, error) {
	for range acquireTries {
		tokens, err := s.leaseTokens(ctx, fingerprint)
		if err != nil {
			return leaseRecord{}, err
		}
		newest, err := s.notedToken(ctx, fingerprint)
		if err != nil {
			return leaseRecord{}, err
		}
		for _, t := range tokens {
			newest = max(newest, t)
		}
		var data []byte
		if newest > 0 {
			data, err = s.readObject(ctx, leaseKey(fingerprint, newest))
			if errors.Is(err, ErrNotFound) { // removed in favour of a newer one: list again
				continue
			}
			if err != nil {
				return leaseRecord{}, err
			}
		}
		for {
			next, err := s.readObject(ctx, leaseKey(fingerprint, newest+1))
			if errors.Is(err, ErrNotFound) {
				break
			}
			if err != nil {
				return leaseRecord{}, err
			}
			newest, data = newest+1, next
		}
		if newest == 0 {
			return leaseRecord{}, nil
		}
		var r leaseRecord
		if json.Unmarshal(data, &r) != nil {
			r = leaseRecord{} // unreadable: as if expired; the token in the name counts
		}
		r.Token = newest
		return r, nil
	}
	return leaseRecord{}, fmt.Errorf("%w: others keep taking it", ErrLeaseHeld)
}

func notedTokenKey(fingerprint string) string { return stageKey(fingerprint, "leases", latestName) }

// notedToken is the token that the last holder has noted when it took the stage,
// 0 where there is none or it cannot be understood.
func (s *Store) notedToken(ctx context.Context, fingerprint string) (int64, error) {
	data, err := s.readObject(ctx, notedTokenKey(fingerprint))
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		return 0, nil
	}
	var noted struct {
		Token int64 `json:"token"`
	}
	if err == nil && json.Unmarshal(data, &noted) != nil {
		noted.Token = 0
	}
	return noted.Token, err
}

// took notes the token and removes the leases below it.
func (s *Store) took(ctx context.Context, fingerprint string, token int64) error {
	note := fmt.Sprintf("{\"token\": %d}\n", token)
	if err := s.backend.Put(ctx, notedTokenKey(fingerprint), strings.NewReader(note)); err != nil {
		return err
	}
	return s.dropOldLeases(ctx, fingerprint, token)
}

func (s *Store) dropOldLeases(ctx context.Context, fingerprint string, below int64) error {
	tokens, err := s.leaseTokens(ctx, fingerprint)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if t < below {
			if err := s.backend.Delete(ctx, leaseKey(fingerprint, t)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Token is the fencing token: it increases with each takeover of the stage.
func (l *Lease) Token() int64 { return l.record.Token }

// TTL is how long the lease holds without Renew.
func (l *Lease) TTL() time.Duration { return l.ttl }

// Fingerprint is that of the stage.
func (l *Lease) Fingerprint() string { return l.fingerprint }

// check returns ErrLeaseLost if the stage has a newer holder. A lease that has
// expired but that nobody took is still good.
func (l *Lease) check(ctx context.Context) error {
	newest, err := l.store.newestLease(ctx, l.fingerprint)
	if err != nil {
		return fmt.Errorf("check lease: %w", err)
	}
	switch {
	case newest.Token == l.record.Token && newest.Nonce == l.record.Nonce:
		return nil
	case newest.Token == 0:
		return fmt.Errorf("%w: token %d was removed", ErrLeaseLost, l.record.Token)
	default:
		return fmt.Errorf("%w: token %d of %s, attempt %d, was superseded by token %d of %s, attempt %d",
			ErrLeaseLost, l.record.Token, l.record.Owner, l.record.Attempt, newest.Token, newest.Owner, newest.Attempt)
	}
}

// Renew extends the lease by its TTL from now, or returns ErrLeaseLost. Call it
// as work advances, at least once per TTL; SaveCheckpoint and Commit do too.
func (l *Lease) Renew(ctx context.Context) error {
	return l.rewrite(ctx, false)
}

// Release gives the stage up, so that others need not wait for the lease to
// expire. Releasing a lost lease is no error.
func (l *Lease) Release(ctx context.Context) error {
	if err := l.rewrite(ctx, true); err != nil && !errors.Is(err, ErrLeaseLost) {
		return err
	}
	return nil
}

func (l *Lease) rewrite(ctx context.Context, released bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check(ctx); err != nil {
		return err
	}
	l.released = l.released || released
	r := l.record
	r.Expires, r.Released = l.store.now().Add(l.ttl).UTC(), l.released
	data, err := encodeJSON(r)
	if err != nil {
		return err
	}
	// If the lease is lost between the check and this write, a lower token
	// stays behind, which has no effect.
	if err := l.store.backend.Put(ctx, leaseKey(l.fingerprint, r.Token), strings.NewReader(string(data))); err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	return nil
}
