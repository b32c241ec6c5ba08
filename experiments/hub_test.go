package experiments

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const (
	commitOld = "1111111111111111111111111111111111111111"
	commitNew = "2222222222222222222222222222222222222222"
)

// hubTree lays a repository out as huggingface_hub does: two snapshots of links
// into blobs, of which main and pr/1 name one each. The large file's blob is
// named by its SHA-256, the small ones by something else.
func hubTree(t *testing.T, cache, repository string) {
	t.Helper()
	root := filepath.Join(cache, repository)
	write := func(name, content string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("refs/main", commitNew)
	write("refs/pr/1", commitOld+"\n")
	for _, commit := range []string{commitOld, commitNew} {
		dir := filepath.Join(root, "snapshots", commit)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"config.json": "{}", "tokenizer.json": "{}" + commit, "model.safetensors": "weights " + commit} {
			blob := sha(content)
			if name != "model.safetensors" {
				blob = blob[:40]
			}
			write("blobs/"+blob, content)
			if err := os.Symlink(filepath.Join("..", "..", "blobs", blob), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// hostWith is the real machine with other variables and none of the user's.
func hostWith(env map[string]string) Host {
	host := OS(nil)
	host.Getenv = func(name string) string { return env[name] }
	return host
}

func TestFindCheckpoint(t *testing.T) {
	home, cache, models := t.TempDir(), t.TempDir(), t.TempDir()
	hubTree(t, filepath.Join(home, ".cache/huggingface/hub"), "models--Qwen--Qwen2.5-0.5B")
	hubTree(t, cache, "models--Qwen--Qwen2.5-0.5B")
	if err := os.MkdirAll(filepath.Join(models, "org", "here"), 0o700); err != nil {
		t.Fatal(err)
	}
	snapshot := func(cache, commit string) string {
		return filepath.Join(cache, "models--Qwen--Qwen2.5-0.5B", "snapshots", commit)
	}
	for _, c := range []struct {
		path string
		env  map[string]string
		want string // a directory, or with a leading ! what the error says
	}{
		{"Qwen/Qwen2.5-0.5B", map[string]string{"HOME": home}, snapshot(filepath.Join(home, ".cache/huggingface/hub"), commitNew)},
		{"Qwen/Qwen2.5-0.5B", map[string]string{"HOME": home, "HF_HUB_CACHE": cache}, snapshot(cache, commitNew)},
		{"Qwen/Qwen2.5-0.5B", map[string]string{"HOME": cache, "XDG_CACHE_HOME": filepath.Join(home, ".cache")}, snapshot(filepath.Join(home, ".cache/huggingface/hub"), commitNew)},
		{"Qwen/Qwen2.5-0.5B", map[string]string{"HOME": cache, "HF_HOME": filepath.Join(home, ".cache/huggingface")}, snapshot(filepath.Join(home, ".cache/huggingface/hub"), commitNew)},
		{"Qwen/Qwen2.5-0.5B@main", map[string]string{"HF_HUB_CACHE": cache}, snapshot(cache, commitNew)},
		{"Qwen/Qwen2.5-0.5B@pr/1", map[string]string{"HF_HUB_CACHE": cache}, snapshot(cache, commitOld)},
		{"Qwen/Qwen2.5-0.5B@" + commitOld, map[string]string{"HF_HUB_CACHE": cache}, snapshot(cache, commitOld)},
		{"org/here", map[string]string{"HF_HUB_CACHE": cache, "ESCLAB_MODELS": models}, filepath.Join(models, "org", "here")},
		{models, nil, models},
		{"/nowhere/at/all", nil, "/nowhere/at/all"}, // the caller's own error names it
		{"Qwen/Qwen2.5-0.5B@v2", map[string]string{"HF_HUB_CACHE": cache}, "!has no revision v2, but " + commitOld + " and 1 more); get it with `esclab model get Qwen/Qwen2.5-0.5B@v2`"},
		{"Qwen/Qwen2.5-0.5B@../../x", map[string]string{"HF_HUB_CACHE": cache}, "!file does not exist"},
		{"Qwen/Qwen2.5-7B", map[string]string{"HF_HUB_CACHE": cache, "ESCLAB_MODELS": models}, "!looked for Qwen/Qwen2.5-7B, " + filepath.Join(models, "Qwen/Qwen2.5-7B") +
			" and in the hub's cache " + cache + " (which has nothing of it); get it with `esclab model get Qwen/Qwen2.5-7B`"},
		{"three/part/name", map[string]string{"HF_HUB_CACHE": cache}, "!looked for three/part/name"},
	} {
		got, err := FindCheckpoint(c.path, hostWith(c.env))
		if want, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with %v: error %v does not say %q", c.path, c.env, err, want)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s with %v: %q, %v, want %q", c.path, c.env, got, err, c.want)
		}
	}
}

// TestHubDigests: a snapshot plans like a copy of its files, and large files are not read for that.
func TestHubDigests(t *testing.T) {
	cache, plain := t.TempDir(), t.TempDir()
	hubTree(t, cache, "models--Qwen--Qwen2.5-0.5B")
	for name, content := range map[string]string{"config.json": "{}", "tokenizer.json": "{}" + commitNew, "model.safetensors": "weights " + commitNew} {
		if err := os.WriteFile(filepath.Join(plain, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := hostWith(map[string]string{"HF_HUB_CACHE": cache})
	var read []string
	open := host.Open
	host.Open = func(path string) (io.ReadCloser, error) {
		read = append(read, filepath.Base(path))
		return open(path)
	}
	got, err := checkpointSource(Backbone{Path: "Qwen/Qwen2.5-0.5B"}, host)
	if err != nil {
		t.Fatal(err)
	}
	want, err := checkpointSource(Backbone{Path: plain}, hostWith(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Files) != 3 || len(want.Files) != 3 {
		t.Fatalf("%+v, of a copy %+v", got, want)
	}
	for i := range got.Files {
		if got.Files[i] != want.Files[i] {
			t.Errorf("%+v, of a copy %+v", got.Files[i], want.Files[i])
		}
	}
	if strings.Join(read, " ") != "main config.json tokenizer.json" {
		t.Errorf("read %v", read)
	}
}

// TestDigestCache: an unchanged file is hashed once, by whatever process; a changed one again.
func TestDigestCache(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.safetensors")
	cachePath := filepath.Join(dir, "state", "digests.json")
	hour := time.Now().Add(-time.Hour)
	write := func(content string, at time.Time) {
		t.Helper()
		temp := path + ".new" // replaced, as download tools do
		if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(temp, at, at); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, path); err != nil {
			t.Fatal(err)
		}
	}
	reads := 0
	digest := func(want string) {
		t.Helper()
		host := OS(nil)
		host.Digests = OpenDigestCache(cachePath) // as a new process does
		host.Open = func(path string) (io.ReadCloser, error) { reads++; return os.Open(path) }
		d, err := digestFile(host, path)
		if err != nil || d.SHA256 != sha(want) || d.Bytes != int64(len(want)) || d.Name != "model.safetensors" {
			t.Errorf("the digest is %+v (%v), want that of the file's bytes under its name", d, err)
		}
	}
	big := strings.Repeat("a", cachedFrom)
	for i, step := range []struct {
		content string
		at      time.Time
		reads   int
	}{
		{big, hour, 1},
		{big + "b", hour, 2},                      // another size
		{big + "c", hour, 3},                      // the same size and time, another file
		{big + "c", hour.Add(time.Second), 4},     // touched
		{big + "d", time.Now().Add(time.Hour), 5}, // too young to be remembered
		{"small", hour, 7},                        // not worth it: hashed twice
	} {
		write(step.content, step.at)
		digest(step.content)
		if step.content != "small" && step.at.After(time.Now()) {
			reads--
		}
		digest(step.content)
		if reads != step.reads {
			t.Errorf("step %d: %d reads, want %d", i, reads, step.reads)
		}
	}
	if err := os.WriteFile(cachePath, []byte("{broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(big, hour)
	digest(big) // an unreadable cache is an empty one
}

// TestRemoteCheckpoint: objects under a URI plan like a copy of them.
func TestRemoteCheckpoint(t *testing.T) {
	weights := strings.Repeat("w", cachedFrom)
	bucket := fstest.MapFS{}
	for name, content := range map[string]string{"config.json": "{}", "tokenizer.json": "{}", "model.safetensors": weights, "README.md": "#"} {
		bucket[name] = &fstest.MapFile{Data: []byte(content), ModTime: time.Now().Add(-time.Hour)}
	}
	host := hostWith(nil)
	host.Digests = OpenDigestCache(filepath.Join(t.TempDir(), "digests.json"))
	var opened []string
	host.Remote = func(uri string) (fs.FS, error) {
		opened = append(opened, uri)
		return bucket, nil
	}
	const uri = "s3://models/qwen/"
	src, err := checkpointSource(Backbone{Path: uri}, host)
	if err != nil || src.Path != uri || len(src.Files) != 3 || src.Files[1].SHA256 != sha(weights) {
		t.Fatalf("the source is %+v (%v), want the bucket's three files with their digests", src, err)
	}
	bucket["model.safetensors"].Data[0] = 'x' // behind its back: the digest is remembered
	again, err := checkpointSource(Backbone{Path: uri}, host)
	if err != nil || again.Files[1] != src.Files[1] {
		t.Errorf("the source is %+v (%v), want the digest that is remembered", again, err)
	}
	bucket["model.safetensors"].ModTime = time.Now().Add(-time.Minute)
	if again, err = checkpointSource(Backbone{Path: uri}, host); err != nil || again.Files[1] == src.Files[1] {
		t.Errorf("the source is %+v (%v), want a new digest, since the file's time has changed", again, err)
	}
	delete(bucket, "model.safetensors")
	if _, err := checkpointSource(Backbone{Path: uri}, host); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "s3://models/qwen/") {
		t.Errorf("a file that is gone: got %v, want an error that names the bucket", err)
	}
	host.Remote = nil
	if _, err := checkpointSource(Backbone{Path: uri}, host); err == nil {
		t.Error("a bucket without a way to it")
	}
}

// TestGGUFSource: a GGUF file is a source of its own, wherever it lies.
func TestGGUFSource(t *testing.T) {
	cache, models := t.TempDir(), t.TempDir()
	hubTree(t, cache, "models--org--model")
	snapshot := filepath.Join(cache, "models--org--model", "snapshots", commitNew)
	for _, path := range []string{filepath.Join(models, "m.gguf"), filepath.Join(snapshot, "m.gguf")} {
		if err := os.WriteFile(path, []byte("GGUF"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host := hostWith(map[string]string{"ESCLAB_MODELS": models, "HF_HUB_CACHE": cache})
	host.Remote = func(uri string) (fs.FS, error) {
		if uri != "s3://bucket/dir" {
			t.Errorf("asked for %q, want the directory above the file", uri)
		}
		return fstest.MapFS{"m.gguf": &fstest.MapFile{Data: []byte("GGUF")}}, nil
	}
	want := FileDigest{Name: "m.gguf", SHA256: sha("GGUF"), Bytes: 4}
	for path, found := range map[string]string{
		"m.gguf": filepath.Join(models, "m.gguf"), "org/model/m.gguf": filepath.Join(snapshot, "m.gguf"),
		"org/model@" + commitNew + "/m.gguf": filepath.Join(snapshot, "m.gguf"), "s3://bucket/dir/m.gguf": "s3://bucket/dir/m.gguf",
	} {
		src, err := checkpointSource(Backbone{Path: path}, host)
		if err != nil || src.Path != found || src.Directory || len(src.Files) != 1 || src.Files[0] != want {
			t.Errorf("%s is %+v (%v), want %s with %+v", path, src, err, found, want)
		}
	}
	for path, says := range map[string]string{
		"org/model/other.gguf": "which has other files of it); get it with `esclab model get org/model --file other.gguf`", "org/none/m.gguf": "get org/none --file m.gguf`", "none.gguf": "none.gguf: file does not exist",
		models: "name one of them: backbone.path=" + models + "/m.gguf",
	} {
		if _, err := checkpointSource(Backbone{Path: path}, host); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s gives error %v, want one that says %q", path, err, says)
		}
	}
}
