package experiments

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/esclab/esclab/esc"
)

// Host is what SourceDigests may see of the machine.
type Host struct {
	// Open reads a file; an error that wraps fs.ErrNotExist means there is none.
	Open func(path string) (io.ReadCloser, error)
	// Stat tells files from directories.
	Stat func(path string) (fs.FileInfo, error)
	// ReadDir lists a directory, sorted by name.
	ReadDir func(path string) ([]fs.DirEntry, error)
	// Getenv reads $ESCLAB_ESCONV, $ESCLAB_MODELS and what names the hub's cache.
	Getenv func(name string) string
	// Readlink says where a link points; nil: there are no links.
	Readlink func(path string) (string, error)
	// Digests remembers the digests of large files; nil: nothing does.
	Digests *DigestCache
	// Remote opens what an s3://bucket/prefix names; nil: nothing is remote.
	Remote func(uri string) (fs.FS, error)
	// Demo is the sample corpus in the binary: one JSON file in ESConv's format.
	Demo []byte
	// CheckPrompts says what is wrong with the texts of judge.prompts for a protocol; nil: nobody looks at them.
	CheckPrompts func(protocol Protocol, texts map[string]string) error

	uri string // of the remote files that Open, Stat and ReadDir see; "": local ones
}

// OS is the real machine with the given sample corpus.
func OS(demo []byte) Host {
	return Host{
		Open:     func(path string) (io.ReadCloser, error) { return os.Open(path) },
		Stat:     os.Stat,
		ReadDir:  os.ReadDir,
		Getenv:   os.Getenv,
		Readlink: os.Readlink,
		Demo:     demo,
	}
}

// Sources is what an experiment reads from outside, by content.
type Sources struct {
	Corpus     Source     `json:"corpus"`
	SplitIndex FileDigest `json:"split_index"` // zero without corpus.split.index
	Checkpoint Source     `json:"checkpoint"`  // zero with backbone.tiny
	// JudgePrompts are the texts of the judges' directories of prompts by their
	// files' names, by the directories; nil without. Nothing has checked them.
	JudgePrompts map[string]map[string]string `json:"judge_prompts,omitempty"`
}

// Source is a file or a directory with the digests of the files that count.
type Source struct {
	Path      string       `json:"path"`      // where it was found; SourceDemo for the sample corpus
	Directory bool         `json:"directory"` // the corpus is already split
	Files     []FileDigest `json:"files"`     // sorted by name; SHA256 is empty where the source is missing
}

// MissingSourceError says that a source is not there and what to do about it.
type MissingSourceError struct {
	Key    string // the YAML path that names it
	Path   string // where it was looked for
	Remedy string
	Err    error
}

func (e *MissingSourceError) Error() string {
	return fmt.Sprintf("%s: %s: %v; %s", e.Key, e.Path, e.Err, e.Remedy)
}

func (e *MissingSourceError) Unwrap() error { return e.Err }

const (
	esconvRemedy = "get ESConv.json from https://github.com/thu-coai/Emotional-Support-Conversation " +
		"(CC BY-NC 4.0) and name it, or a directory with train.json, valid.json and test.json, " +
		"with --set corpus.source=PATH or in $ESCLAB_ESCONV"
	corpusRemedy     = "corpus.source is \"demo\", \"esconv\", a file in ESConv's format, or a directory with train.json, valid.json and test.json"
	checkpointRemedy = "download the model (config.json, tokenizer.json and its safetensors, or a GGUF file; `esclab model get ORG/NAME` does for one of the hub) and name its directory, or that file, with " +
		"--set backbone.path=PATH, or the directory above it in $ESCLAB_MODELS"
)

// SourceDigests finds the experiment's source files and hashes them. The
// Sources it returns can always be planned with: what is missing has no digest,
// and the stages that rest on it no fingerprint. The error joins one
// MissingSourceError for each source that is not there; a run must not start
// with it.
func SourceDigests(exp Experiment, host Host) (Sources, error) {
	var s Sources
	var errs [3]error
	s.Corpus, errs[0] = corpusSource(exp.Corpus, host)
	switch index := exp.Corpus.Split.Index; {
	case index != "" && s.Corpus.Directory:
		errs[1] = fmt.Errorf("corpus.split.index: %s is a directory that is already split; leave the index out", s.Corpus.Path)
	case index != "":
		var err error
		s.SplitIndex, err = digestFile(host, exp.Corpus.Split.Index)
		if err != nil {
			errs[1] = missing("corpus.split.index", exp.Corpus.Split.Index, "name a JSON file with the dialogues' indices per split, or leave the key empty", err)
		}
	}
	if exp.Backbone.Tiny == nil {
		s.Checkpoint, errs[2] = checkpointSource(exp.Backbone, host)
	}
	all := errs[:]
	for _, j := range exp.Judges() {
		if j.Kind != JudgeOpenAI || j.Prompts == "" {
			continue
		}
		texts, err := judgePrompts(j, host)
		if err != nil {
			all = append(all, err)
			continue
		}
		if s.JudgePrompts == nil {
			s.JudgePrompts = map[string]map[string]string{}
		}
		s.JudgePrompts[j.Prompts] = texts
	}
	return s, errors.Join(all...)
}

// maxPrompts bounds the prompts that are read: they travel in the parameters.
const maxPrompts = 64 << 10

// judgePrompts reads a directory's text files.
func judgePrompts(j JudgeAt, host Host) (map[string]string, error) {
	path, key := j.Prompts, j.Path+".prompts"
	const remedy = "name a directory with a text file for each question of the judge's protocol, or leave the key empty for the program's own prompts"
	entries, err := host.ReadDir(path)
	if err != nil {
		return nil, missing(key, path, remedy, err)
	}
	texts := map[string]string{}
	size := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".txt") {
			continue
		}
		f, err := host.Open(filepath.Join(path, e.Name()))
		if err != nil {
			return nil, missing(key, filepath.Join(path, e.Name()), remedy, err)
		}
		data, err := io.ReadAll(io.LimitReader(f, maxPrompts+1))
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, missing(key, filepath.Join(path, e.Name()), remedy, err)
		}
		if size += len(data); size > maxPrompts {
			return nil, missing(key, path, remedy, fmt.Errorf("more than %d bytes of prompts", maxPrompts))
		}
		texts[e.Name()] = strings.TrimPrefix(string(data), "\ufeff")
	}
	if len(texts) == 0 {
		return nil, missing(key, path, remedy, fs.ErrNotExist)
	}
	return texts, nil
}

func corpusSource(c Corpus, host Host) (Source, error) {
	path, remedy := c.Source, corpusRemedy
	switch c.Source {
	case SourceDemo:
		d, err := digest("demo.json", strings.NewReader(string(host.Demo)))
		return Source{Path: SourceDemo, Files: []FileDigest{d}}, err
	case SourceESConv:
		path, remedy = host.Getenv("ESCLAB_ESCONV"), esconvRemedy
		if path == "" {
			return Source{Files: []FileDigest{{Name: "ESConv.json"}}},
				missing("corpus.source", SourceESConv, remedy, errors.New("$ESCLAB_ESCONV is not set"))
		}
	}
	info, err := host.Stat(path)
	if err != nil {
		return Source{Path: path, Files: []FileDigest{{Name: filepath.Base(path)}}}, missing("corpus.source", path, remedy, err)
	}
	if !info.IsDir() {
		d, err := digestFile(host, path)
		if err != nil {
			err = missing("corpus.source", path, remedy, err)
		}
		return Source{Path: path, Files: []FileDigest{d}}, err
	}
	src := Source{Path: path, Directory: true}
	var first error
	for _, part := range []string{"test", "train", "valid"} { // sorted
		var d FileDigest
		name, err := esc.PartFile(part, func(name string) bool {
			_, err := host.Stat(filepath.Join(path, name))
			return err == nil
		})
		if d.Name = name; err == nil {
			d, err = digestFile(host, filepath.Join(path, name))
		}
		if err != nil && first == nil {
			first = missing("corpus.source", filepath.Join(path, name), remedy, err)
		}
		src.Files = append(src.Files, d)
	}
	return src, first
}

// decidingFiles need not be there, and decide results where they are: they say which tokens there are, how a chat is
// rendered and what ends an answer.
var decidingFiles = []string{"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "generation_config.json"}

// checkpointSource hashes what decides a checkpoint's behaviour: configuration,
// tokenizer and weights, or a GGUF file that has all three; not its README or its
// other formats.
func checkpointSource(b Backbone, host Host) (Source, error) {
	src := Source{Path: b.Path, Directory: true}
	fail := func(err error) (Source, error) {
		src.Files = []FileDigest{{Name: "config.json"}}
		if _, file := SplitSource(b.Path); file != "" {
			src.Directory, src.Files = false, []FileDigest{{Name: file}}
		}
		return src, &MissingSourceError{Key: "backbone.path", Path: src.Path, Remedy: checkpointRemedy, Err: err}
	}
	path, err := b.Path, error(nil)
	if Remote(path) {
		var dir string
		dir, path = SplitSource(b.Path)
		path = cmp.Or(path, ".")
		host, err = host.remote(dir)
	} else if path, err = FindCheckpoint(path, host); err == nil {
		src.Path = path
	}
	if err != nil {
		return fail(err)
	}
	if GGUF(path) {
		d, err := digestFile(host, path)
		if err != nil {
			return fail(err)
		}
		src.Directory, src.Files = false, []FileDigest{d}
		return src, nil
	}
	entries, err := host.ReadDir(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fs.ErrNotExist // without the system call and the path again
		}
		return fail(err)
	}
	names := []string{"config.json", "tokenizer.json"}
	weights, whole := false, ""
	for _, e := range entries {
		switch name := e.Name(); {
		case GGUF(name):
			whole = name
		case strings.HasSuffix(name, ".safetensors"):
			weights = true
			names = append(names, name)
		case slices.Contains(decidingFiles, name), strings.HasSuffix(name, ".safetensors.index.json"):
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var first error
	if !weights && whole != "" {
		first = &MissingSourceError{Key: "backbone.path", Path: src.Path, Err: errors.New("it has no safetensors, but GGUF files"),
			Remedy: fmt.Sprintf("name one of them: backbone.path=%s/%s", strings.TrimSuffix(b.Path, "/"), whole)}
	}
	if !weights {
		names = append(names, "model.safetensors")
	}
	for _, name := range names {
		d, err := digestFile(host, filepath.Join(path, name))
		if err != nil && first == nil {
			first = missing("backbone.path", strings.TrimSuffix(src.Path, "/")+"/"+name, checkpointRemedy, err)
		}
		src.Files = append(src.Files, d)
	}
	return src, first
}

func missing(key, path, remedy string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = fs.ErrNotExist // without the system call and the path again
	}
	return &MissingSourceError{Key: key, Path: path, Remedy: remedy, Err: err}
}

// digestFile hashes a file, unless its digest is known; where it fails the
// digest has the name alone.
func digestFile(host Host, path string) (FileDigest, error) {
	if d, ok := hubDigest(host, path); ok {
		return d, nil
	}
	name := filepath.Base(path)
	before, err := host.Stat(path)
	if err != nil {
		return FileDigest{Name: name}, err
	}
	key := path
	if host.uri != "" {
		key = host.uri + "/" + path
	} else if key, err = filepath.Abs(path); err != nil {
		return FileDigest{Name: name}, err
	}
	if sum := host.Digests.lookup(key, before); sum != "" {
		return FileDigest{Name: name, SHA256: sum, Bytes: before.Size()}, nil
	}
	began := time.Now()
	f, err := host.Open(path)
	if err != nil {
		return FileDigest{Name: name}, err
	}
	d, err := digest(name, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return d, err
	}
	if after, err := host.Stat(path); err == nil {
		// A cache that cannot be written costs time the next time, no more.
		_ = host.Digests.store(key, d.SHA256, before, after, began)
	}
	return d, nil
}

func digest(name string, r io.Reader) (FileDigest, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return FileDigest{Name: name}, err
	}
	return FileDigest{Name: name, SHA256: hex.EncodeToString(h.Sum(nil)), Bytes: n}, nil
}

// digests copies the list, so that JSON has [] and never null; a source nobody
// looked for counts as missing.
func digests(files []FileDigest) []FileDigest {
	if len(files) == 0 {
		return []FileDigest{{}}
	}
	return slices.Clone(files)
}
