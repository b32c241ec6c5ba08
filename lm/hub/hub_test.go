package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// testHub speaks the hub's protocol for one repository, org/model: small files itself, large ones by a redirect to
// another host, as the hub does with its content delivery network.
type testHub struct {
	*httptest.Server
	delivery *httptest.Server
	large    map[string][]byte
	small    map[string][]byte

	mu       sync.Mutex
	requests []string // of the delivery: "name from-range"
	leaked   []string // Authorization headers that reached the delivery
	// What a test makes of it.
	refuse   func(w http.ResponseWriter, r *http.Request) bool // answers instead
	cut      int                                               // bytes after which each of the next breaks connections
	breaks   int
	noLength bool // no Content-Length, as some mirrors
	noRange  bool
	spoil    bool // other bytes than promised
}

func newTestHub(t *testing.T) *testHub {
	h := &testHub{
		large: map[string][]byte{"model.safetensors": []byte(strings.Repeat("weights ", 50_000)), "extra/m.gguf": []byte(strings.Repeat("GGUF", 1000))},
		small: map[string][]byte{"config.json": []byte("{}"), "tokenizer.json": []byte(`{"a":1}`), "README.md": []byte("#"), "onnx/model.safetensors": []byte("x")},
	}
	h.delivery = httptest.NewServer(http.HandlerFunc(h.deliver))
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	t.Cleanup(h.delivery.Close)
	return h
}

func (h *testHub) client(t *testing.T) *Client {
	return &Client{Endpoint: h.URL, Token: "hf_secret", Cache: t.TempDir(), pause: time.Millisecond, Log: func(line string) { t.Log(line) }}
}

func (h *testHub) serve(w http.ResponseWriter, r *http.Request) {
	if h.refuse != nil && h.refuse(w, r) {
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/org/model/resolve/"+commit+"/"); ok {
		if content, ok := h.small[name]; ok {
			_, _ = w.Write(content)
			return
		}
		http.Redirect(w, r, h.delivery.URL+"/"+name, http.StatusFound)
		return
	}
	switch r.URL.Path {
	case "/api/models/org/model/revision/main", "/api/models/org/model/revision/pr/1", "/api/models/org/model/revision/" + commit:
	case "/api/models/org/model/revision/none":
		w.Header().Set("X-Error-Code", "RevisionNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	default:
		w.Header().Set("X-Error-Code", "RepoNotFound")
		w.WriteHeader(http.StatusUnauthorized) // as the hub answers about private and missing ones
		return
	}
	type lfs struct {
		SHA256 string `json:"sha256"`
		Size   int    `json:"size"`
	}
	type sibling struct {
		Name string `json:"rfilename"`
		Size int    `json:"size"`
		Blob string `json:"blobId"`
		LFS  *lfs   `json:"lfs,omitempty"`
	}
	answer := struct {
		SHA      string    `json:"sha"`
		Siblings []sibling `json:"siblings"`
	}{SHA: commit}
	for name, content := range h.small {
		answer.Siblings = append(answer.Siblings, sibling{Name: name, Size: len(content), Blob: gitBlob(content)})
	}
	for name, content := range h.large {
		sum := sha256.Sum256(content)
		answer.Siblings = append(answer.Siblings, sibling{Name: name, Size: len(content), Blob: gitBlob([]byte("pointer")), LFS: &lfs{hex.EncodeToString(sum[:]), len(content)}})
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func gitBlob(content []byte) string {
	sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content))
	return hex.EncodeToString(sum[:])
}

func (h *testHub) deliver(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if token := r.Header.Get("Authorization"); token != "" {
		h.leaked = append(h.leaked, token)
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	h.requests = append(h.requests, strings.TrimSpace(name+" "+r.Header.Get("Range")))
	content := slices.Clone(h.large[name])
	if h.spoil {
		content[len(content)/2] ^= 1
	}
	from := 0
	if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !h.noRange {
		from, _ = strconv.Atoi(strings.TrimSuffix(text, "-"))
		if from >= len(content) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
	}
	if !h.noLength {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)-from))
	}
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if h.breaks > 0 && h.cut < len(content)-from {
		h.breaks--
		_, _ = w.Write(content[from : from+h.cut])
		w.(http.Flusher).Flush()
		if h.noLength {
			return // an end like any other
		}
		panic(http.ErrAbortHandler)
	}
	if h.noLength {
		w.(http.Flusher).Flush()
	}
	_, _ = w.Write(content[from:])
}

// whole fails unless the snapshot has a model's files as the hub has them, by links into blobs named by their hashes.
func (h *testHub) whole(t *testing.T, got Got, names ...string) {
	t.Helper()
	for _, name := range names {
		want := h.small[name]
		if want == nil {
			want = h.large[name]
		}
		path := filepath.Join(got.Dir, filepath.FromSlash(name))
		data, err := os.ReadFile(path)
		if err != nil || string(data) != string(want) {
			t.Errorf("%s has %d bytes (%v), want the hub's %d", name, len(data), err, len(want))
			continue
		}
		target, err := os.Readlink(path)
		if err != nil || filepath.IsAbs(target) || filepath.Base(filepath.Dir(target)) != "blobs" {
			t.Errorf("%s links to %q (%v), want a relative link to a blob", name, target, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(got.Dir)), "blobs", "*.incomplete")); len(left) > 0 {
		t.Errorf("%v are left, want no parts", left)
	}
	if len(h.leaked) > 0 {
		t.Errorf("another host was sent %q, want no token there", h.leaked)
	}
}

var modelFiles = []string{"config.json", "tokenizer.json", "model.safetensors"}

func TestGet(t *testing.T) {
	h := newTestHub(t)
	c := h.client(t)
	var last int64
	c.Progress = func(_ string, done, _ int64) { last = max(last, done) }
	got, err := c.Get(t.Context(), Repo{Name: "org/model"})
	if err != nil {
		t.Fatal(err)
	}
	h.whole(t, got, modelFiles...)
	if got.Commit != commit || got.Downloaded != got.Bytes || last != 400_000 {
		t.Errorf("got %+v with progress up to %d, want all of the commit's bytes and 400000", got, last)
	}
	slices.Sort(got.Files)
	if want := []string{"config.json", "model.safetensors", "tokenizer.json"}; !slices.Equal(got.Files, want) {
		t.Errorf("files %v, want %v", got.Files, want)
	}
	ref, err := os.ReadFile(filepath.Join(c.Cache, "models--org--model", "refs", "main"))
	if err != nil || string(ref) != commit {
		t.Errorf("refs/main is %q (%v), want the commit", ref, err)
	}
	requests := len(h.requests)
	for _, revision := range []string{"", "pr/1", commit} {
		again, err := c.Get(t.Context(), Repo{Name: "org/model", Revision: revision})
		if err != nil || again.Downloaded != 0 || again.Dir != got.Dir {
			t.Errorf("revision %q again: %+v (%v), want the same snapshot and nothing downloaded", revision, again, err)
		}
	}
	if len(h.requests) != requests {
		t.Errorf("requests %v, want none for what is there", h.requests[requests:])
	}
	if got, err = c.Get(t.Context(), Repo{Name: "org/model", Files: []string{"extra/m.gguf"}}); err != nil {
		t.Fatal(err)
	}
	h.whole(t, got, "extra/m.gguf")
}

// TestInterrupted: whatever ends a download, the next one goes on where it was, and what is damaged is not kept.
func TestInterrupted(t *testing.T) {
	part := func(t *testing.T, h *testHub, c *Client, content []byte) {
		sum := sha256.Sum256(h.large["model.safetensors"])
		path := filepath.Join(c.Cache, "models--org--model", "blobs", hex.EncodeToString(sum[:])+".incomplete")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	whole := newTestHub(t).large["model.safetensors"]
	for name, c := range map[string]struct {
		change func(h *testHub)
		part   []byte
		want   []string // requests of the delivery
	}{
		"the connection is cut":            {func(h *testHub) { h.cut, h.breaks = 150_000, 2 }, nil, []string{"", "bytes=150000-", "bytes=300000-"}},
		"it was killed":                    {func(*testHub) {}, whole[:1234], []string{"bytes=1234-"}},
		"it was killed when all was there": {func(*testHub) {}, whole, nil},
		"the part is of something else":    {func(*testHub) {}, []byte("other"), []string{"bytes=5-", ""}},
		"the part is longer":               {func(*testHub) {}, append(slices.Clone(whole), "more"...), []string{""}},
		"no Content-Length":                {func(h *testHub) { h.noLength, h.cut, h.breaks = true, 150_000, 1 }, nil, []string{"", "bytes=150000-"}},
		"no ranges":                        {func(h *testHub) { h.noRange = true }, whole[:1234], []string{"bytes=1234-"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			c.change(h)
			client := h.client(t)
			if c.part != nil {
				part(t, h, client, c.part)
			}
			got, err := client.Get(t.Context(), Repo{Name: "org/model"})
			if err != nil {
				t.Fatal(err)
			}
			h.whole(t, got, modelFiles...)
			var ranges []string
			for _, request := range h.requests {
				ranges = append(ranges, strings.TrimSpace(strings.TrimPrefix(request, "model.safetensors")))
			}
			if !slices.Equal(ranges, c.want) {
				t.Errorf("ranges %q were asked for, want %q", ranges, c.want)
			}
		})
	}
	t.Run("416 without a stated size", func(t *testing.T) {
		h := newTestHub(t)
		client := h.client(t)
		sum := sha256.Sum256(whole)
		f := file{name: "model.safetensors", blob: hex.EncodeToString(sum[:])}
		root := filepath.Join(client.Cache, "models--org--model")
		part(t, h, client, whole)
		if _, err := client.fetch(t.Context(), Repo{Name: "org/model"}, commit, root, f); err != nil {
			t.Fatal(err)
		}
		h.whole(t, Got{Dir: filepath.Join(root, "snapshots", commit)}, "model.safetensors")
	})
	t.Run("cancelled", func(t *testing.T) {
		h := newTestHub(t)
		h.cut, h.breaks = 150_000, 1
		client := h.client(t)
		ctx, cancel := context.WithCancel(t.Context())
		client.Log = func(string) { cancel() } // after the first break
		if _, err := client.Get(ctx, Repo{Name: "org/model"}); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v, want the cancellation", err)
		}
		if _, err := os.Stat(filepath.Join(client.Cache, "models--org--model", "refs", "main")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("refs/main is there (%v), want none before the snapshot is whole", err)
		}
		client.Log = nil
		got, err := client.Get(t.Context(), Repo{Name: "org/model"})
		if err != nil || got.Downloaded > 250_100 {
			t.Fatalf("%+v (%v), want the rest alone downloaded", got, err)
		}
		h.whole(t, got, modelFiles...)
	})
	t.Run("other bytes", func(t *testing.T) {
		h := newTestHub(t)
		h.spoil = true
		got, err := h.client(t).Get(t.Context(), Repo{Name: "org/model"})
		if err == nil || !strings.Contains(err.Error(), "damaged, or not the file") {
			t.Errorf("error %v, want one about the hash", err)
		}
		if _, err := os.Stat(filepath.Join(got.Dir, "model.safetensors")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the snapshot has the file (%v), want it refused", err)
		}
	})
	t.Run("no room", func(t *testing.T) {
		h := newTestHub(t)
		client := h.client(t)
		client.free = func(string) (int64, error) { return 399_999, nil }
		if _, err := client.Get(t.Context(), Repo{Name: "org/model"}); err == nil || !strings.Contains(err.Error(), "make room") || len(h.requests) > 0 {
			t.Errorf("error %v after %v, want one about the room, and nothing downloaded", err, h.requests)
		}
		part(t, h, client, whole[:1234]) // what is there need not come
		if _, err := client.Get(t.Context(), Repo{Name: "org/model"}); err != nil {
			t.Errorf("%v, want room for the rest", err)
		}
	})
}

// TestTwoDownloads: two at a time fetch a file once.
func TestTwoDownloads(t *testing.T) {
	h := newTestHub(t)
	first := h.client(t)
	second := *first
	var group sync.WaitGroup
	for _, c := range []*Client{first, &second} {
		group.Go(func() {
			got, err := c.Get(t.Context(), Repo{Name: "org/model"})
			if err != nil {
				t.Error(err)
				return
			}
			h.whole(t, got, modelFiles...)
		})
	}
	group.Wait()
	if len(h.requests) != 1 {
		t.Errorf("requests %v, want one", h.requests)
	}
}

func TestRefusals(t *testing.T) {
	answer := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("X-Error-Code", code)
			w.WriteHeader(status)
			return true
		}
	}
	for name, c := range map[string]struct {
		repo   Repo
		change func(h *testHub, c *Client)
		is     error
		says   string
	}{
		"missing":      {Repo{Name: "org/none"}, nil, ErrNotFound, "there is no such model"},
		"no revision":  {Repo{Name: "org/model", Revision: "none"}, nil, ErrRevision, "revision none"},
		"an escape":    {Repo{Name: "org/model", Revision: "../x"}, nil, ErrRevision, "../x"},
		"gated":        {Repo{Name: "org/model"}, func(h *testHub, c *Client) { h.refuse, c.Token = answer(401, "GatedRepo"), "" }, ErrGated, "/org/model, then set HF_TOKEN"},
		"not let in":   {Repo{Name: "org/model"}, func(h *testHub, _ *Client) { h.refuse = answer(403, "GatedRepo") }, ErrGated, "has no access to it yet"},
		"offline":      {Repo{Name: "org/model"}, func(_ *testHub, c *Client) { c.Offline = true }, ErrOffline, "nothing is downloaded"},
		"no such file": {Repo{Name: "org/model", Files: []string{"none.gguf"}}, nil, nil, "it has no file none.gguf"},
		"GGUF alone":   {Repo{Name: "org/model"}, func(h *testHub, _ *Client) { delete(h.large, "model.safetensors") }, nil, "--file: extra/m.gguf"},
		"no model":     {Repo{Name: "org/model"}, func(h *testHub, _ *Client) { h.large = nil }, nil, "no model that can be read here"},
		"outside":      {Repo{Name: "org/model", Files: []string{"../x"}}, func(h *testHub, _ *Client) { h.small["../x"] = []byte("x") }, nil, "lies outside"},
		"always busy":  {Repo{Name: "org/model"}, func(h *testHub, _ *Client) { h.refuse = answer(503, "") }, nil, "503"},
		"no hub at all": {Repo{Name: "org/model"}, func(h *testHub, _ *Client) {
			h.refuse = func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "<html>"); return true }
		}, nil, "something else than the hub would"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHub(t)
			client := h.client(t)
			if c.change != nil {
				c.change(h, client)
			}
			_, err := client.Get(t.Context(), c.repo)
			if err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v, want one that says %q and is %v", err, c.says, c.is)
			}
			if err != nil && strings.Contains(err.Error(), "hf_secret") {
				t.Errorf("error %v has the token", err)
			}
		})
	}
	t.Run("busy for a while", func(t *testing.T) {
		h := newTestHub(t)
		asked := 0
		h.refuse = func(w http.ResponseWriter, _ *http.Request) bool {
			if asked++; asked > 2 {
				return false
			}
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		got, err := h.client(t).Get(t.Context(), Repo{Name: "org/model"})
		if err != nil {
			t.Fatal(err)
		}
		h.whole(t, got, modelFiles...)
	})
}

func TestFromEnv(t *testing.T) {
	env := map[string]string{"HF_ENDPOINT": "http://mirror/", "HF_TOKEN": "t\n", "HF_HUB_OFFLINE": "1"}
	c := FromEnv(func(name string) string { return env[name] }, "cache")
	if c.Endpoint != "http://mirror" || c.Token != "t" || !c.Offline || c.Cache != "cache" {
		t.Errorf("%+v, want what the environment says", c)
	}
	if c := FromEnv(func(string) string { return "" }, ""); c.Endpoint != "https://huggingface.co" || c.Offline {
		t.Errorf("%+v, want the hub itself", c)
	}
}
