// Package hub downloads models from the Hugging Face hub into the cache that huggingface_hub, transformers and vLLM
// share: blobs by their hash, snapshots of links into them, and refs.
//
// What the hub says of a repository is read with go-huggingface's types. Its downloads start again from nothing, check
// no hash and know neither HF_HUB_CACHE nor a gated model from a missing one; ours follow huggingface_hub's
// file_download.py: a part goes on by range, under huggingface_hub's own name and lock.
package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/go-huggingface/hub"
)

// Client downloads from one hub into one cache.
type Client struct {
	Endpoint string // "https://huggingface.co", or a mirror's
	Token    string // of HF_TOKEN; "": none. It is sent to the endpoint's host and to no other.
	Cache    string // the directory of the cache
	Offline  bool   // never ask the hub
	// HTTP makes the requests; nil is a client of this package's own.
	HTTP *http.Client
	// Progress is told how far a file has come, at most some times a second; may be nil.
	Progress func(file string, done, total int64)
	// Log is told what happens, a line each; may be nil.
	Log func(line string)

	pause time.Duration                   // before the first new try; 0: a second
	free  func(dir string) (int64, error) // nil: that of the file system
}

// FromEnv is the client that the environment describes, as huggingface_hub reads it: HF_ENDPOINT, HF_TOKEN,
// HF_HUB_OFFLINE. cache is the cache's directory.
func FromEnv(env func(string) string, cache string) *Client {
	c := &Client{Endpoint: strings.TrimSuffix(env("HF_ENDPOINT"), "/"), Token: strings.TrimSpace(env("HF_TOKEN")), Cache: cache}
	if c.Endpoint == "" {
		c.Endpoint = "https://huggingface.co"
	}
	switch strings.ToUpper(env("HF_HUB_OFFLINE")) {
	case "1", "ON", "YES", "TRUE":
		c.Offline = true
	}
	return c
}

// The reasons why a repository cannot be had.
var (
	ErrNotFound = errors.New("there is no such model, or it is private and HF_TOKEN has no access to it")
	ErrRevision = errors.New("there is no such revision")
	ErrGated    = errors.New("it is gated")
	ErrOffline  = errors.New("HF_HUB_OFFLINE is set")
)

// Repo names a repository and what of it is wanted.
type Repo struct {
	Name     string // "org/name"
	Revision string // a branch, tag or commit; "": main
	// Files are wanted besides the rest; none: configuration, tokenizer and safetensors.
	Files []string
}

// Got is what Get has found or downloaded.
type Got struct {
	Dir        string // the snapshot
	Commit     string
	Files      []string
	Bytes      int64 // of all files
	Downloaded int64 // of these, over the network now
}

// file is a file of a repository that is wanted.
type file struct {
	name string
	blob string // its name in the cache: the SHA-256 of a large file, git's SHA-1 of a small one
	size int64  // 0: not stated
}

// Get brings a repository's files into the cache and returns where they are. What is there already is not fetched
// again; what a call before has begun goes on.
func (c *Client) Get(ctx context.Context, repo Repo) (Got, error) {
	if c.Offline {
		return Got{}, fmt.Errorf("%s: %w: nothing is downloaded", repo.Name, ErrOffline)
	}
	info, err := c.info(ctx, repo)
	if err != nil {
		return Got{}, fmt.Errorf("%s: %w", repo.Name, err)
	}
	files, err := wanted(info, repo)
	if err != nil {
		return Got{}, fmt.Errorf("%s: %w", repo.Name, err)
	}
	root := filepath.Join(c.Cache, "models--"+strings.ReplaceAll(repo.Name, "/", "--"))
	got := Got{Commit: info.CommitHash, Dir: filepath.Join(root, "snapshots", info.CommitHash)}
	if err := c.room(root, files); err != nil {
		return got, fmt.Errorf("%s: %w", repo.Name, err)
	}
	for _, f := range files {
		n, err := c.fetch(ctx, repo, info.CommitHash, root, f)
		got.Downloaded += n
		if err != nil {
			return got, fmt.Errorf("%s: %s: %w", repo.Name, f.name, err)
		}
		got.Files = append(got.Files, f.name)
		got.Bytes += f.size
	}
	// The ref comes last: it says that the snapshot can be used.
	if repo.revision() != info.CommitHash {
		if err := writeRef(filepath.Join(root, "refs", filepath.FromSlash(repo.revision())), info.CommitHash); err != nil {
			return got, fmt.Errorf("%s: %w", repo.Name, err)
		}
	}
	return got, nil
}

func (r Repo) revision() string {
	if r.Revision == "" {
		return "main"
	}
	return r.Revision
}

var (
	commitName = regexp.MustCompile(`^[0-9a-f]{40}$`)
	blobName   = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// maxInfo bounds the hub's answer about a repository.
const maxInfo = 64 << 20

// info asks the hub about a revision: its commit and its files.
func (c *Client) info(ctx context.Context, repo Repo) (*hub.RepoInfo, error) {
	if !filepath.IsLocal(filepath.FromSlash(repo.revision())) {
		return nil, fmt.Errorf("revision %q: %w", repo.Revision, ErrRevision)
	}
	address := fmt.Sprintf("%s/api/models/%s/revision/%s?blobs=true", c.Endpoint, repo.Name, url.PathEscape(repo.revision()))
	var info hub.RepoInfo
	err := c.tries(ctx, func() (progress bool, err error) {
		response, err := c.ask(ctx, address, 0)
		if err != nil {
			return false, err
		}
		defer func() { _ = response.Body.Close() }() // only read
		if response.StatusCode != http.StatusOK {
			return false, c.refusal(response, repo)
		}
		if err := json.NewDecoder(io.LimitReader(response.Body, maxInfo)).Decode(&info); err != nil {
			return false, fmt.Errorf("%s answers with something else than the hub would: %w", address, err)
		}
		return true, nil
	})
	if err == nil && !commitName.MatchString(info.CommitHash) {
		err = fmt.Errorf("%s names no commit but %q", address, info.CommitHash)
	}
	return &info, err
}

// wanted chooses the files of a repository: those that a backbone is read from, or those that are asked for.
func wanted(info *hub.RepoInfo, repo Repo) ([]file, error) {
	var files []file
	var ggufs []string
	weights := false
	for _, s := range info.Siblings {
		if s == nil {
			continue
		}
		f := file{name: s.Name, blob: s.BlobID, size: s.Size}
		if s.LFS != nil {
			f.blob, f.size = s.LFS.SHA256, s.LFS.Size
		}
		if path.Ext(f.name) == ".gguf" {
			ggufs = append(ggufs, f.name)
		}
		if len(repo.Files) > 0 && !slices.Contains(repo.Files, f.name) || len(repo.Files) == 0 && !partOfModel(f.name) {
			continue
		}
		weights = weights || path.Ext(f.name) == ".safetensors"
		switch {
		case !filepath.IsLocal(filepath.FromSlash(f.name)):
			return nil, fmt.Errorf("the hub names a file %q, which lies outside the repository", f.name)
		case !blobName.MatchString(f.blob) || f.size < 0:
			return nil, fmt.Errorf("%s: the hub states no hash of it: %q", f.name, f.blob)
		}
		files = append(files, f)
	}
	for _, name := range repo.Files {
		if !slices.ContainsFunc(files, func(f file) bool { return f.name == name }) {
			return nil, fmt.Errorf("it has no file %s", name)
		}
	}
	if len(repo.Files) == 0 && !weights {
		if len(ggufs) > 0 {
			return nil, fmt.Errorf("it has no safetensors, but GGUF files: name one with --file: %s", strings.Join(ggufs, ", "))
		}
		return nil, errors.New("it has no safetensors and no GGUF file: it is no model that can be read here")
	}
	return files, nil
}

// partOfModel says whether a backbone in Hugging Face's layout is read from a file.
func partOfModel(name string) bool {
	switch name {
	case "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
		"generation_config.json":
		return true
	}
	return !strings.Contains(name, "/") && (strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".safetensors.index.json"))
}

// refusal says what an answer other than the one that was asked for means (huggingface_hub, hf_raise_for_status).
func (c *Client) refusal(response *http.Response, repo Repo) error {
	page := c.Endpoint + "/" + repo.Name
	switch code := response.Header.Get("X-Error-Code"); {
	case code == "GatedRepo" && c.Token == "":
		return permanent(fmt.Errorf("%w: accept its conditions at %s, then set HF_TOKEN", ErrGated, page))
	case code == "GatedRepo":
		return permanent(fmt.Errorf("%w: the account of HF_TOKEN has no access to it yet; ask for it at %s", ErrGated, page))
	case code == "RevisionNotFound":
		return permanent(fmt.Errorf("revision %s: %w", repo.revision(), ErrRevision))
	case response.StatusCode == http.StatusForbidden:
		return permanent(fmt.Errorf("%s: HF_TOKEN may not read it, or the mirror refuses it", response.Status))
	case code == "RepoNotFound", response.StatusCode == http.StatusNotFound, response.StatusCode == http.StatusUnauthorized:
		return permanent(ErrNotFound)
	}
	err := fmt.Errorf("%s answers %s", response.Request.URL.Host, response.Status)
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= 500 {
		return err
	}
	return permanent(err)
}

// ask makes a GET request, of the bytes from an offset on.
func (c *Client) ask(ctx context.Context, address string, from int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, permanent(err)
	}
	request.Header.Set("User-Agent", "esclab")
	request.Header.Set("Accept-Encoding", "identity") // a range of the file, and not of something packed
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	// net/http keeps the header for hosts below the first one's name, and for other ports of it.
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("ten redirects")
		}
		if next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
			next.Header.Del("Authorization")
		}
		return nil
	}
	return client.Do(request)
}

// permanentError is what no new try can mend.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func permanent(err error) error { return permanentError{err} }

// maxTries is how often something is tried that comes no further.
const maxTries = 5

// tries calls do until it succeeds, fails for good, or has not advanced for maxTries times.
func (c *Client) tries(ctx context.Context, do func() (progress bool, err error)) error {
	pause := c.pause
	if pause == 0 {
		pause = time.Second
	}
	for try, wait := 1, pause; ; try++ {
		progress, err := do()
		var final permanentError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &final):
			return final.error
		case progress:
			try, wait = 1, pause
		case try >= maxTries:
			return err
		}
		c.log(fmt.Sprintf("%v: trying again", err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 30*pause)
	}
}

func (c *Client) log(line string) {
	if c.Log != nil {
		c.Log(line)
	}
}
