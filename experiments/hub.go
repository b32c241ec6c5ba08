package experiments

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
)

// hubName matches a model's name on the Hugging Face hub, with a branch, tag or commit after an @.
var hubName = regexp.MustCompile(`^([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)(?:@([\w.-]+(?:/[\w.-]+)*))?$`)

// FindCheckpoint says where the directory or GGUF file of a backbone.path lies. A relative path
// is looked up in the working directory, then under $ESCLAB_MODELS; "org/name",
// "org/name@revision", "org/name/file.gguf" then in the cache of the Hugging Face hub, where
// esclab model get, transformers and vLLM put what they download. Nothing is
// downloaded here: an error that wraps fs.ErrNotExist says where it was looked
// for and how to get it.
func FindCheckpoint(path string, host Host) (string, error) {
	if _, err := host.Stat(path); err == nil || filepath.IsAbs(path) {
		return path, nil
	}
	tried := []string{path}
	if models := host.Getenv("ESCLAB_MODELS"); models != "" {
		below := filepath.Join(models, path)
		if _, err := host.Stat(below); err == nil {
			return below, nil
		}
		tried = append(tried, below)
	}
	looked := fmt.Errorf("%w: looked for %s", fs.ErrNotExist, strings.Join(tried, ", "))
	model, named := ParseHubModel(path)
	cache := HubCache(host.Getenv)
	if !named || cache == "" {
		return "", looked
	}
	dir, err := hubSnapshot(filepath.Join(cache, "models--"+strings.ReplaceAll(model.Name, "/", "--")), model.Revision, host)
	if err == nil {
		dir = filepath.Join(dir, model.File)
		if _, err = host.Stat(dir); err != nil {
			err = errors.New("which has other files of it")
		}
	}
	if err != nil {
		return "", fmt.Errorf("%w and in the hub's cache %s (%s); get it with `%s`", looked, cache, err, model.GetCommand())
	}
	return dir, nil
}

// HubModel is what a backbone.path names on the Hugging Face hub.
type HubModel struct {
	Name     string // "org/name"
	Revision string // a branch, tag or commit; "": main
	File     string // a GGUF file's name; "": the whole model
}

// ParseHubModel takes "org/name", "org/name@revision", "org/name/file.gguf" apart.
func ParseHubModel(path string) (HubModel, bool) {
	dir, file := SplitSource(path)
	name := hubName.FindStringSubmatch(dir)
	if name == nil {
		return HubModel{}, false
	}
	return HubModel{Name: name[1] + "/" + name[2], Revision: name[3], File: file}, true
}

// GetCommand is the command that downloads the model.
func (m HubModel) GetCommand() string {
	command := "esclab model get " + m.Name
	if m.Revision != "" {
		command += "@" + m.Revision
	}
	if m.File != "" {
		command += " --file " + m.File
	}
	return command
}

// HubCache is the directory of the hub's cache, found as huggingface_hub does
// (constants.py); "" where it is in no known place.
func HubCache(getenv func(name string) string) string {
	for _, place := range []struct{ variable, below string }{
		{"HF_HUB_CACHE", ""}, {"HUGGINGFACE_HUB_CACHE", ""}, {"HF_HOME", "hub"},
		{"XDG_CACHE_HOME", "huggingface/hub"}, {"HOME", ".cache/huggingface/hub"},
	} {
		if dir := getenv(place.variable); dir != "" {
			return filepath.Join(dir, place.below)
		}
	}
	return ""
}

// hubSnapshot is the directory of a repository's revision: a commit, or what a
// branch or tag (main unless one is named) pointed at when it was downloaded.
func hubSnapshot(repository, revision string, host Host) (string, error) {
	if revision == "" {
		revision = "main"
	}
	for part := range strings.SplitSeq(revision, "/") {
		if part == ".." || part == "." {
			return "", fmt.Errorf("revision %q: %w", revision, fs.ErrInvalid)
		}
	}
	snapshots := filepath.Join(repository, "snapshots")
	if _, err := host.Stat(filepath.Join(snapshots, revision)); err == nil {
		return filepath.Join(snapshots, revision), nil
	}
	commit, err := readSmall(host, filepath.Join(repository, "refs", filepath.FromSlash(revision)))
	if err == nil && commit != "" && filepath.IsLocal(commit) {
		dir := filepath.Join(snapshots, commit)
		if _, err = host.Stat(dir); err == nil {
			return dir, nil
		}
	}
	entries, err := host.ReadDir(snapshots)
	switch {
	case err != nil || len(entries) == 0:
		return "", errors.New("which has nothing of it")
	case len(entries) == 1:
		return "", fmt.Errorf("which has no revision %s, but %s", revision, entries[0].Name())
	}
	return "", fmt.Errorf("which has no revision %s, but %s and %d more", revision, entries[0].Name(), len(entries)-1)
}

// readSmall reads a file of one line.
func readSmall(host Host, path string) (string, error) {
	f, err := host.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, 1<<10))
	return strings.TrimSpace(string(data)), errors.Join(err, f.Close())
}

// blobName matches the name of a large file in the hub's cache: its SHA-256.
// (Small files are named by git's SHA-1 of them, of 40 digits.)
var blobName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// hubDigest takes a file's SHA-256 from the name of the blob that a snapshot's
// link points at. The import compares it with the content.
func hubDigest(host Host, path string) (digest FileDigest, ok bool) {
	if host.Readlink == nil {
		return digest, false
	}
	target, err := host.Readlink(path)
	if err != nil || filepath.Base(filepath.Dir(target)) != "blobs" || !blobName.MatchString(filepath.Base(target)) {
		return digest, false
	}
	info, err := host.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return digest, false
	}
	return FileDigest{Name: filepath.Base(path), SHA256: filepath.Base(target), Bytes: info.Size()}, true
}
