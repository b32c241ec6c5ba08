package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/artifacts/storetest"
)

// unwell is a backend behind a proxy, and the same bucket without one.
type unwell struct {
	*storetest.Proxy
	config          s3.Config
	direct, backend artifacts.Backend
}

func newUnwell(t *testing.T, g *storetest.Gateway) *unwell {
	t.Helper()
	u := &unwell{Proxy: storetest.StartProxy(t, g), config: g.Config()}
	u.direct = g.Open(t, u.config)
	c := u.Through(u.config)
	c.MaxAttempts, c.PartBytes = 4, 5<<20
	u.backend = g.Open(t, c)
	return u
}

// operations are what the store asks of a service, each on keys of its own.
func (u *unwell) operations(t *testing.T) map[string]func() error {
	ctx, b := t.Context(), u.backend
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
	storetest.Write(t, u.direct, "at/large", large)
	storetest.Write(t, u.direct, "at/small", []byte("small"))
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
		t.Errorf("put beside somebody else's: %v", err)
	}
	for key, want := range map[string][]byte{"to/large": storetest.Bytes(6<<20, 3), "once/1": []byte("x")} {
		if got := storetest.Read(t, u.direct, key); !bytes.Equal(got, want) {
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
	b, err := s3.Open(t.Context(), c)
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
	for _, c := range []s3.Config{{Bucket: "b", Encryption: "rot13"}, {Bucket: "b", Encryption: "sse-s3", KMSKey: "k"}, {Bucket: "b", KMSKey: "k"}} {
		if _, err := s3.Open(t.Context(), c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
