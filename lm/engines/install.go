package engines

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/gomlx/compute-onnx/support/onnxruntime"
)

// Sources of ONNX Runtime's library.
const (
	SourceAuto  = "auto"  // gomlx where its site can be reached, npm elsewhere
	SourceGoMLX = "gomlx" // GoMLX's own installer: the release on GitHub, trusted as TLS delivers it
	SourceNPM   = "npm"   // the npm package onnxruntime-node, of a pinned digest
)

// Options of InstallONNX and InstallXLACPU.
type Options struct {
	Source   string   // of ONNX Runtime, one of the sources; "" is auto
	From     string   // a library or an archive with one on this machine instead
	Registry string   // of npm: see Registry; "" is the public one
	Package  *Package // nil: the pinned one
	Index    string   // of Python packages: see Index; "" is the public one
	Wheel    *Wheel   // nil: the pinned one
	// Client makes the requests; nil is http.DefaultClient.
	Client *http.Client
	// Log is told what happens, a line each; may be nil.
	Log func(line string)
}

// InstallONNX installs ONNX Runtime's library below dataDir, in place of one that is there. Nothing of it changes
// where it fails.
func InstallONNX(ctx context.Context, dataDir string, o Options) (Library, error) {
	o.Registry = cmp.Or(o.Registry, publicRegistry)
	if o.Package == nil {
		o.Package = &onnxRuntimeNode
	}
	return o.into(onnxPlace, dataDir, func(dir string) (Library, error) { return o.install(ctx, dir) })
}

// into has a library installed in its place below a data directory.
func (o *Options) into(k place, dataDir string, install func(dir string) (Library, error)) (Library, error) {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	dir := k.in(dataDir)
	// A data directory holds dialogues: nobody else's business.
	if err := errors.Join(os.MkdirAll(dataDir, 0o700), os.MkdirAll(dir, 0o755)); err != nil {
		return Library{}, fmt.Errorf("install %s: %w", k.title, err)
	}
	library, err := install(dir)
	if err != nil {
		return library, fmt.Errorf("install %s: %w", k.title, err)
	}
	return library, nil
}

func (o *Options) install(ctx context.Context, dir string) (Library, error) {
	switch source := cmp.Or(o.Source, SourceAuto); {
	case o.From != "":
		return o.fromFile(dir)
	case source == SourceNPM:
		return o.fromNPM(ctx, dir)
	case source == SourceGoMLX:
		return o.fromGoMLX(ctx, dir)
	case source != SourceAuto:
		return Library{}, fmt.Errorf("source %q: use %s, %s or %s", source, SourceAuto, SourceGoMLX, SourceNPM)
	}
	if err := o.reach(ctx, onnxruntime.RepoURL); err != nil {
		o.Log(fmt.Sprintf("GoMLX's installer cannot reach its site (%v): taking the npm package", err))
		return o.fromNPM(ctx, dir)
	}
	return o.fromGoMLX(ctx, dir)
}

// reach asks whether a site answers at all.
func (o *Options) reach(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return err
	}
	response, err := o.Client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// fromNPM takes the library out of the npm package.
func (o *Options) fromNPM(ctx context.Context, dir string) (Library, error) {
	member, err := o.Package.member()
	if err != nil {
		return Library{}, err
	}
	tarball, err := os.CreateTemp(dir, ".download-*")
	if err != nil {
		return Library{}, err
	}
	defer os.Remove(tarball.Name())
	defer tarball.Close()
	o.Log(fmt.Sprintf("downloading %s %s from %s", o.Package.Name, o.Package.Version, o.Registry))
	if err := o.Package.download(ctx, o.Client, o.Registry, tarball); err != nil {
		return Library{}, err
	}
	if _, err := tarball.Seek(0, io.SeekStart); err != nil {
		return Library{}, err
	}
	l := Library{Version: o.Package.Version, Source: "npm " + o.Package.Name + " " + o.Package.Version, SHA256: member.SHA256}
	return takeMember(dir, tarball, func(name string) bool { return name == member.Path }, l)
}

// fromFile takes a library, or the one in a tarball.
func (o *Options) fromFile(dir string) (Library, error) {
	file, err := os.Open(o.From)
	if err != nil {
		return Library{}, err
	}
	defer file.Close()
	l := Library{Source: "file " + filepath.Base(o.From)}
	in := bufio.NewReader(file)
	head, err := in.Peek(2)
	if err != nil {
		return l, fmt.Errorf("%s: %w", o.From, err)
	}
	if !bytes.Equal(head, []byte{0x1f, 0x8b}) { // not gzip: the library itself
		return onnxPlace.take(dir, in, l)
	}
	member, err := onnxRuntimeNode.member()
	if err != nil {
		return l, err
	}
	return takeMember(dir, in, func(name string) bool {
		// npm's tarball has one for each system and architecture, ONNX Runtime's own release one at all.
		return name == member.Path || path.Base(path.Dir(name)) == "lib" && strings.HasPrefix(path.Base(name), "libonnxruntime.so")
	}, l)
}

// fromGoMLX has GoMLX's installer fetch the version that is pinned for npm, into a directory of its own.
func (o *Options) fromGoMLX(ctx context.Context, dir string) (Library, error) {
	target, err := os.MkdirTemp(dir, ".gomlx-*")
	if err != nil {
		return Library{}, err
	}
	defer os.RemoveAll(target)
	type outcome struct {
		path string
		err  error
	}
	done := make(chan outcome, 1)
	go func() { // it knows no context: what is cancelled finishes into a removed directory
		path, err := onnxruntime.Install(o.Package.Version, false, "", target, false)
		done <- outcome{path, err}
	}()
	var got outcome
	select {
	case <-ctx.Done():
		return Library{}, ctx.Err()
	case got = <-done:
	}
	if got.err != nil {
		return Library{}, fmt.Errorf("GoMLX's installer: %w", got.err)
	}
	file, err := os.Open(got.path)
	if err != nil {
		return Library{}, fmt.Errorf("GoMLX's installer: %w", err)
	}
	defer file.Close()
	return onnxPlace.take(dir, file, Library{Version: o.Package.Version, Source: "ONNX Runtime's release " + o.Package.Version + " by GoMLX's installer"})
}

// takeMember takes the one regular file that wanted names out of a gzipped tar. Names in the archive are compared and
// never become paths.
func takeMember(dir string, tarball io.Reader, wanted func(name string) bool, l Library) (Library, error) {
	unzipped, err := gzip.NewReader(tarball)
	if err != nil {
		return l, fmt.Errorf("%s: %w", l.Source, err)
	}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return l, fmt.Errorf("%s: no ONNX Runtime library for this machine in it", l.Source)
		}
		if err != nil {
			return l, fmt.Errorf("%s: %w", l.Source, err)
		}
		if header.Typeflag == tar.TypeReg && wanted(header.Name) {
			return onnxPlace.take(dir, archive, l)
		}
	}
}

// take writes a library into dir and adopts it.
func (k place) take(dir string, content io.Reader, l Library) (Library, error) {
	file, err := os.CreateTemp(dir, ".library-*")
	if err != nil {
		return l, err
	}
	defer os.Remove(file.Name()) // gone after the rename
	_, err = io.Copy(file, content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return l, fmt.Errorf("%s: %w", l.Source, err)
	}
	return k.adopt(file.Name(), l)
}
