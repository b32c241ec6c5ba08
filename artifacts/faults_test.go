package artifacts_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

// unwell is a store behind a proxy, and the same bucket without one.
type unwell struct {
	*storetest.Proxy
	gateway *storetest.Gateway
	config  artifacts.S3Config
	direct  *world // as it is
	store   *world // through the proxy
}

func newUnwell(t *testing.T, g *storetest.Gateway) *unwell {
	t.Helper()
	u := &unwell{Proxy: storetest.StartProxy(t, g), gateway: g, config: g.Config()}
	u.direct = newWorld(t, g.Open(t, u.config))
	c := u.Through(u.config)
	c.MaxAttempts, c.PartBytes = 4, 5<<20
	u.store = newWorld(t, g.Open(t, c))
	return u
}

// operations are what the store asks of a service, each on keys of its own.
func (u *unwell) operations(t *testing.T) map[string]func() error {
	ctx, b := t.Context(), u.store.hooks.Backend
	large := storetest.Bytes(6<<20, 3)
	read := func(key string, want []byte) error {
		r, err := b.Get(ctx, key)
		if err != nil {
			return err
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s: read %d bytes that were not put, without an error", key, len(got))
		}
		return err
	}
	storetest.Write(t, u.direct.hooks.Backend, "at/large", large)
	storetest.Write(t, u.direct.hooks.Backend, "at/small", []byte("small"))
	n := 0
	return map[string]func() error{
		"put":       func() error { return b.Put(ctx, "to/small", strings.NewReader("small")) },
		"put large": func() error { return b.Put(ctx, "to/large", bytes.NewReader(large)) },
		"put if absent": func() error {
			n++
			key := fmt.Sprint("once/", n)
			err := b.PutIfAbsent(ctx, key, []byte("x"))
			if errors.Is(err, artifacts.ErrExists) { // the answer was lost
				err = nil
			}
			return err
		},
		"get":       func() error { return read("at/small", []byte("small")) },
		"get large": func() error { return read("at/large", large) },
		"stat":      func() error { return second(b.Stat(ctx, "at/small")) },
		"list": func() error {
			for _, err := range b.List(ctx, "at/") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"delete": func() error { return b.Delete(ctx, "to/small") },
	}
}

// TestFaultsThatPass: what passes after a few requests is waited for by every
// operation; what does not is one error, after a bounded number of requests,
// that names the bucket and the key.
func TestFaultsThatPass(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	operations := u.operations(t)
	for name, fault := range map[string]storetest.Fault{
		"500":                storetest.Answer(500, "InternalError"),
		"502":                storetest.Answer(502, "BadGateway"),
		"503 SlowDown":       storetest.Answer(503, "SlowDown"),
		"reset":              storetest.Reset,
		"lost answer":        storetest.LoseAnswer,
		"cut in the request": storetest.CutRequest(3),
		"cut in the answer":  storetest.CutAnswer(3),
		"clock 5 min ahead":  storetest.Ahead(5 * time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			for op, do := range operations {
				u.Heal()
				u.On(storetest.Any, 2, fault)
				if err := do(); err != nil {
					t.Errorf("%s: %v", op, err)
				}
			}
		})
	}
	u.Heal()
	u.On(storetest.Method(http.MethodPut), 2, storetest.Answer(409, "OperationAborted")) // somebody else is at the same key
	if err := operations["put"](); err != nil {
		t.Error(err)
	}
	for key, want := range map[string][]byte{"to/large": storetest.Bytes(6<<20, 3), "once/1": []byte("x")} {
		if got := storetest.Read(t, u.direct.hooks.Backend, key); !bytes.Equal(got, want) {
			t.Errorf("%s: stored %d other bytes", key, len(got))
		}
	}
}

// TestFaultsThatStay: one error that names bucket and key and says what to do.
func TestFaultsThatStay(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	operations := u.operations(t)
	for name, c := range map[string]struct {
		fault  storetest.Fault
		tries  int // at most, for one request
		advice string
	}{
		"500":                 {storetest.Answer(500, "InternalError"), 4, "see its log"},
		"503 SlowDown":        {storetest.Answer(503, "SlowDown"), 4, "run fewer workers"},
		"reset":               {storetest.Reset, 4, ""},
		"access denied":       {storetest.Answer(403, "AccessDenied"), 1, "the right to get, put, list and delete"},
		"expired credentials": {storetest.Answer(403, "ExpiredToken"), 1, "renew the credentials"},
		"wrong key":           {storetest.Answer(403, "SignatureDoesNotMatch"), 1, "correct the access key"},
		"full":                {storetest.Answer(507, "InsufficientStorage"), 1, "esclab gc"},
		"clock":               {storetest.Answer(403, "RequestTimeTooSkewed"), 4, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			for op, do := range operations {
				u.Heal()
				hits := u.On(storetest.Any, -1, c.fault)
				err := do()
				if err == nil {
					t.Errorf("%s succeeded", op)
					continue
				}
				if errors.Is(err, artifacts.ErrNotFound) || errors.Is(err, artifacts.ErrExists) {
					t.Errorf("%s: a service that fails looks like an object: %v", op, err)
				}
				if hits() > 3*c.tries { // the parts of an upload, two at a time, and its abortion
					t.Errorf("%s: %d requests", op, hits())
				}
				for _, want := range []string{"s3://" + u.config.Bucket + "/", "/", c.advice} {
					// HEAD has no body: there is only the status to go by.
					if op == "stat" && want == c.advice {
						continue
					}
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %q is not in: %v", op, want, err)
					}
				}
				if strings.Contains(err.Error(), u.config.SecretKey) {
					t.Errorf("%s: the secret is in: %v", op, err)
				}
			}
		})
	}
}

// TestFlippedBits: on the way to the service a changed byte is refused; on the
// way back, or where it lies, it is never taken for what was asked.
func TestFlippedBits(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	ctx := t.Context()
	content := string(storetest.Bytes(6<<20, 9))
	u.On(storetest.Method(http.MethodPut), 1, storetest.FlipRequest(1234))
	ref, err := u.store.PutBytes(ctx, []byte(content))
	if err != nil {
		// Refused: nothing must be there.
		if !strings.Contains(err.Error(), "changed on their way") {
			t.Errorf("upload: %v", err)
		}
		if keys := storetest.Keys(t, u.direct.hooks.Backend, "blobs/"); len(keys) != 0 {
			t.Errorf("stored %q", keys)
		}
		ref = u.direct.blob(t, content)
	}
	u.On(storetest.Both(storetest.Method(http.MethodGet), storetest.Key(ref.Key)), 2, storetest.FlipAnswer(4321))
	_, err = u.store.ReadAll(ctx, ref, 10<<20)
	wantErr(t, err, artifacts.ErrCorrupt)
	_, err = u.store.LocalFile(ctx, ref)
	if wantErr(t, err, artifacts.ErrCorrupt); err != nil && !strings.Contains(err.Error(), ref.Key) {
		t.Errorf("%v does not name the key", err)
	}
	path, err := u.store.LocalFile(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != content {
		t.Errorf("local copy: %d bytes, %v", len(data), err)
	}
	// Where it lies: found by whoever looks, mended by the stage that is run
	// again, and named by an audit.
	done := commit(t, u.direct, "stage", content)
	u.direct.flip(t, ref.Key, 77)
	m, err := u.store.Load(ctx, done)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, u.store.Verify(ctx, m), artifacts.ErrDamaged)
	audit, err := u.store.Audit(ctx, []string{fingerprint("stage")}, nil)
	if err != nil || len(audit.Damaged) != 1 || audit.Damaged[0].Key != ref.Key || audit.Damaged[0].File != "0" {
		t.Errorf("audit: %+v, %v", audit, err)
	}
	if _, err := u.store.PutBytes(ctx, []byte(content)); err != nil {
		t.Error(err)
	}
	if err := u.store.Verify(ctx, m); err != nil {
		t.Errorf("not mended: %v", err)
	}
	// A manifest that is whole, and a blob behind it that is gone.
	u.direct.delete(t, ref.Key)
	_, err = u.store.Lookup(ctx, fingerprint("stage"))
	if wantErr(t, err, artifacts.ErrDamaged); err != nil && !strings.Contains(err.Error(), ref.Key) {
		t.Errorf("%v does not name the key", err)
	}
}

// TestTornUpload: a service that says yes and keeps half. A checkpoint like
// that is noticed before the ones that it would replace are removed.
func TestTornUpload(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	ctx := t.Context()
	for _, keep := range []int{1, 2} {
		stage := fingerprint(fmt.Sprint("torn", keep))
		l, err := u.store.Acquire(ctx, stage, artifacts.Claim{Owner: "o", Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		for step := int64(1); step <= 4; step++ {
			good := step < 3
			if !good {
				u.On(storetest.Both(storetest.Method(http.MethodPut), storetest.Key(fmt.Sprintf("checkpoints/%010d", step))), 1,
					u.tear(fmt.Sprintf("stages/%s/checkpoints/%010d-%010d/state", stage, step, 1)))
			}
			_, err := l.SaveCheckpoint(ctx, step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile(storetest.Bytes(1000, uint64(step)))})
			if good && err != nil || !good && !errors.Is(err, artifacts.ErrCorrupt) {
				t.Errorf("keep %d, step %d: %v", keep, step, err)
			}
		}
		c, skipped, err := u.store.LatestCheckpoint(ctx, stage)
		if err != nil || c.Step != 2 || len(skipped) != 2 {
			t.Errorf("keep %d: step %d, skipped %v, %v", keep, c.Step, skipped, err)
		}
	}
}

// tear lets an upload through and then halves what lies in the bucket.
func (u *unwell) tear(key string) storetest.Fault {
	return func(p *storetest.Proxy, w http.ResponseWriter, r *http.Request) {
		storetest.Pass(p, w, r)
		path := filepath.Join(u.gateway.Root, u.config.Bucket, filepath.FromSlash(key))
		if info, err := os.Stat(path); err == nil {
			os.Truncate(path, info.Size()/2)
		}
	}
}

// TestStaleLists: a service whose lists lag behind its writes loses neither an
// acknowledged checkpoint nor a takeover.
func TestStaleLists(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	ctx := t.Context()
	first := u.store.acquire(t, artifacts.Claim{Owner: "a", Attempt: 1})
	save(t, first, 1, "one")
	u.On(storetest.Listing, -1, storetest.Stale)
	latest(t, u.store) // from here on lists stay as they are
	save(t, first, 2, "two")
	if step, state := latest(t, u.store); step != 2 || state != "two" {
		t.Errorf("latest is step %d, %q", step, state)
	}
	save(t, first, 3, "three")
	if step, _ := latest(t, u.store); step != 3 {
		t.Errorf("latest is step %d", step)
	}
	second := u.store.acquire(t, artifacts.Claim{Owner: "b", Steal: true})
	if second.Token() != 2 {
		t.Errorf("token %d", second.Token())
	}
	wantErr(t, first.Renew(ctx), artifacts.ErrLeaseLost)
	_, err := first.SaveCheckpoint(ctx, 9, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("zombie"))})
	wantErr(t, err, artifacts.ErrLeaseLost)
	save(t, second, 4, "four")
	if step, state := latest(t, u.store); step != 4 || state != "four" {
		t.Errorf("latest is step %d, %q", step, state)
	}
	// A collection that is shown an old list removes nothing that is young, and
	// a stage that comes to need an old blob sends it again.
	old := u.direct.blob(t, "old")
	u.Heal()
	u.On(storetest.Listing, -1, storetest.Stale)
	if _, err := u.store.Collect(ctx, artifacts.CollectOptions{OlderThan: time.Hour}); err != nil {
		t.Error(err)
	}
	if _, err := u.direct.ReadAll(ctx, old, 10); err != nil {
		t.Error(err)
	}
}

// TestExpiredCredentials: keys that are renewed in their file are taken up
// without a new start.
func TestExpiredCredentials(t *testing.T) {
	g := storetest.StartGateway(t)
	p := storetest.StartProxy(t, g)
	c := p.Through(g.Config())
	access, secret := c.AccessKey, c.SecretKey
	reads := 0
	c.Reload = func(context.Context) (string, string, string, error) {
		reads++
		if reads == 1 {
			return "old", "old", "", nil
		}
		return access, secret, "", nil
	}
	g.Open(t, g.Config()) // another bucket
	b, err := artifacts.OpenS3(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p.On(func(r *http.Request) bool { return strings.Contains(r.Header.Get("Authorization"), "Credential=old/") }, -1, storetest.Answer(403, "ExpiredToken"))
	g.MakeBucket(t, c)
	err = b.Put(t.Context(), "key", strings.NewReader("x"))
	if err == nil || !strings.Contains(err.Error(), "renew the credentials") {
		t.Errorf("with the old keys: %v", err)
	}
	if err := b.Put(t.Context(), "key", strings.NewReader("x")); err != nil || reads != 2 {
		t.Errorf("with the new keys: %v after %d readings", err, reads)
	}
}

// TestUnlucky works on a store where one request in six goes wrong, in every
// way there is, as workers do: a failed attempt is tried again. What was
// acknowledged is there in the end, and nothing is damaged.
func TestUnlucky(t *testing.T) {
	u := newUnwell(t, storetest.StartGateway(t))
	for seed := range uint64(3) {
		u.Heal()
		u.On(storetest.Any, -1, storetest.Unlucky(seed, 6))
		var wg sync.WaitGroup
		var mu sync.Mutex
		refs := map[string]artifacts.ArtifactRef{}
		for n := range 3 {
			wg.Go(func() {
				name := fmt.Sprint("unlucky", seed, n)
				ref := u.stubborn(t, name)
				mu.Lock()
				refs[name] = ref
				mu.Unlock()
			})
		}
		wg.Wait()
		failures := len(u.Requests())
		u.Heal()
		for name, ref := range refs {
			m, err := u.direct.Load(t.Context(), ref)
			if err == nil {
				err = u.direct.Verify(t.Context(), m)
			}
			if err != nil {
				t.Errorf("seed %d: %s: %v", seed, name, err)
			}
		}
		audit, err := u.direct.AuditAll(t.Context(), nil)
		if err != nil || len(audit.Damaged) != 0 {
			t.Errorf("seed %d: %+v, %v", seed, audit, err)
		}
		t.Logf("seed %d: %d requests", seed, failures)
	}
}

// stubborn runs a stage of six steps, attempt after attempt, until its commit
// is acknowledged. Each attempt goes on where an acknowledged checkpoint was.
func (u *unwell) stubborn(t *testing.T, name string) artifacts.ArtifactRef {
	ctx := t.Context()
	acknowledged := int64(0)
	const attempts = 2000
	for attempt := 1; attempt <= attempts; attempt++ {
		if attempt > 1 { // as a workflow engine does
			time.Sleep(10 * time.Millisecond)
		}
		l, err := u.store.Acquire(ctx, fingerprint(name), artifacts.Claim{Owner: name, Attempt: attempt, Steal: true, Keep: 2})
		if err != nil {
			continue
		}
		c, skipped, err := u.store.LatestCheckpoint(ctx, fingerprint(name))
		if err != nil && !errors.Is(err, artifacts.ErrNotFound) {
			continue
		}
		// A reading that was hurt on its way is skipped as if it lay there so: an
		// older checkpoint costs time, never the result.
		if c.Step < acknowledged && len(skipped) == 0 {
			t.Errorf("%s, attempt %d: the checkpoint of step %d was acknowledged, the latest is %d (%v)", name, attempt, acknowledged, c.Step, err)
		}
		step := c.Step
		for step < 6 {
			step++
			if _, err = l.SaveCheckpoint(ctx, step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile(fmt.Appendf(nil, "%s %d", name, step))}); err != nil {
				break
			}
			acknowledged = max(acknowledged, step)
		}
		if err != nil {
			continue
		}
		r, err := u.store.PutBytes(ctx, []byte("result of "+name))
		if err != nil {
			continue
		}
		ref, err := l.Commit(ctx, artifacts.Manifest{Kind: "k", Stage: name, Files: map[string]artifacts.Ref{"r": r}}, "note")
		if err == nil {
			return ref
		}
	}
	t.Errorf("%s: not done after %d attempts", name, attempts)
	return artifacts.ArtifactRef{}
}

// TestEncryption: what the settings ask for is in the header of every put, and a
// service that does not confirm it is refused.
func TestEncryption(t *testing.T) {
	g := storetest.StartGateway(t)
	p := storetest.StartProxy(t, g)
	for _, c := range []struct{ mode, key, header, keyHeader string }{
		{"none", "", "", ""}, {"sse-s3", "", "AES256", ""}, {"sse-kms", "", "aws:kms", ""}, {"sse-kms", "arn:aws:kms:eu:1:key/7", "aws:kms", "arn:aws:kms:eu:1:key/7"},
	} {
		p.Heal()
		config := p.Through(g.Config())
		config.Encryption, config.KMSKey, config.PartBytes = c.mode, c.key, 5<<20
		b := g.Open(t, config)
		puts := func() (errs []error) {
			return []error{b.Put(t.Context(), "small", strings.NewReader("x")), b.Put(t.Context(), "large", bytes.NewReader(storetest.Bytes(11<<20, 1))), b.PutIfAbsent(t.Context(), "once", nil)}
		}
		// The gateway knows no encryption and says nothing: only "none" may pass.
		for _, err := range puts() {
			if (err == nil) != (c.header == "") || err != nil && (!strings.Contains(err.Error(), "plain text") || !strings.Contains(err.Error(), config.Bucket)) {
				t.Errorf("%s: a service that does not encrypt: %v", c.mode, err)
			}
		}
		if err := b.Delete(t.Context(), "once"); err != nil {
			t.Fatal(err)
		}
		p.Heal()
		p.On(storetest.Any, -1, storetest.Encrypting)
		for _, err := range puts() {
			if err != nil {
				t.Errorf("%s: %v", c.mode, err)
			}
		}
		asked := 0
		for _, r := range p.Requests() {
			header := r.Header.Get("X-Amz-Server-Side-Encryption")
			part := r.URL.Query().Has("partNumber") || r.URL.Query().Has("uploadId")
			if (r.Method == http.MethodPut || r.Method == http.MethodPost) && !part {
				asked++
				if header != c.header || r.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") != c.keyHeader {
					t.Errorf("%s: %s %s has %q", c.mode, r.Method, r.URL, header)
				}
			}
		}
		if asked != 3 {
			t.Errorf("%s: %d puts", c.mode, asked)
		}
	}
	for _, c := range []artifacts.S3Config{{Bucket: "b", Encryption: "rot13"}, {Bucket: "b", Encryption: "sse-s3", KMSKey: "k"}, {Bucket: "b", KMSKey: "k"}} {
		if _, err := artifacts.OpenS3(t.Context(), c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// TestAudit: each kind of damage is found, named and told from the rest.
func TestAudit(t *testing.T) {
	eachBackend(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		commit(t, w, "good", "shared", "one")
		commit(t, w, "bad", "shared", "two")
		commit(t, w, "manifest", "three")
		l := w.lease(t, "unfinished")
		for step := int64(1); step <= 2; step++ {
			if _, err := l.SaveCheckpoint(ctx, step, map[string]artifacts.WriteFunc{"state": artifacts.BytesFile([]byte("state"))}); err != nil {
				t.Fatal(err)
			}
		}
		orphan := w.blob(t, "orphan")
		if _, err := w.PutRunFile(ctx, "demo", "plan.json", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if _, err := w.PutReply(ctx, "judge", fingerprint("q"), []byte(`1`)); err != nil {
			t.Fatal(err)
		}
		a, err := w.AuditAll(ctx, nil)
		if err != nil || len(a.Damaged) != 0 || a.Stages != 3 || a.Checkpoints != 2 || a.Documents != 2 || a.Blobs != 5 {
			t.Errorf("%+v, %v", a, err)
		}
		two := w.blob(t, "two")
		q := fingerprint("q")
		state := "stages/" + fingerprint("unfinished") + "/checkpoints/0000000002-0000000001/state"
		manifest := "stages/" + fingerprint("manifest") + "/manifest.json"
		provenance := "stages/" + fingerprint("good") + "/provenance.json"
		reply := "cache/judge/" + q[:2] + "/" + q + ".json"
		for _, k := range []string{two.Key, orphan.Key, state, manifest, provenance, "runs/demo/plan.json", reply} {
			w.flip(t, k, 1)
		}
		shared := w.blob(t, "shared")
		w.delete(t, shared.Key)
		a, err = w.AuditAll(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range a.Damaged {
			got = append(got, d.Key)
			if d.Reason == "" || d.Remedy == "" {
				t.Errorf("%+v", d)
			}
		}
		want := []string{two.Key, orphan.Key, state, manifest, provenance, "runs/demo/plan.json", reply, shared.Key, shared.Key}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("damaged %q, want %q", got, want)
		}
		some, err := w.Audit(ctx, []string{fingerprint("bad"), fingerprint("never")}, nil)
		if err != nil || len(some.Damaged) != 2 || some.Stages != 1 || some.Unfinished != 1 {
			t.Errorf("%+v, %v", some, err)
		}
	})
}
