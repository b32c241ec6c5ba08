package stack

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"mime"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/labstack/echo/v4"

	"github.com/esclab/esclab/artifacts"
	backend "github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/workers/stack/connect"
)

// files shows what the store holds of a stage beside the web UI, to whom that has let
// in: the list of an artifact's files under its fingerprint, and each of them.
type files struct {
	store atomic.Pointer[artifacts.Store] // nil until the store is up
	close func()
}

// open takes the store into use.
func (f *files) open(ctx context.Context, dir string, p connect.S3) error {
	b, err := backend.Open(ctx, backend.Config{Bucket: p.Bucket, Endpoint: p.Endpoint, Region: p.Region, PathStyle: p.PathStyle,
		AccessKey: p.Credentials.AccessKey, SecretKey: string(p.Credentials.SecretKey)})
	if err != nil {
		return fmt.Errorf("ui: %w", err)
	}
	store, err := artifacts.New(b, artifacts.Options{CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		return fmt.Errorf("ui: %w", err)
	}
	f.close = func() { b.Close() }
	f.store.Store(store)
	return nil
}

// listing is the list of an artifact's files.
var listing = template.Must(template.New("files").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.Stage}}</title>
<style>body{font:16px/1.5 sans-serif;margin:2em auto;max-width:50em;padding:0 1em}td{padding:0 1em 0 0}</style>
<h1>{{.Stage}}</h1><p>artifact {{.Digest}}</p>
<table>{{range .Files}}<tr><td><a href="{{.Name}}">{{.Name}}</a><td>{{.Bytes}} bytes{{end}}</table>
`))

func (f *files) serve(c echo.Context) error {
	store := f.store.Load()
	if store == nil {
		return c.String(http.StatusServiceUnavailable, "The store is not up yet, or is none of this stack's.\n")
	}
	ctx := c.Request().Context()
	fingerprint, name, _ := strings.Cut(c.Param("*"), "/")
	m, err := store.Lookup(ctx, fingerprint)
	if errors.Is(err, artifacts.ErrNotFound) {
		return c.String(http.StatusNotFound, "The store has nothing of this stage: it is not done, or was collected.\n")
	} else if err != nil {
		return c.String(http.StatusBadGateway, err.Error()+"\n")
	}
	// Dialogues and replies may want to be scripts: a file runs none, has no origin, and
	// asks for nothing.
	c.Response().Header().Set("Content-Security-Policy", "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	if name == "" {
		type row struct {
			Name  string
			Bytes int64
		}
		var rows []row
		for _, n := range slices.Sorted(maps.Keys(m.Files)) {
			rows = append(rows, row{n, m.Files[n].Bytes})
		}
		c.Response().Header().Set(echo.HeaderContentType, echo.MIMETextHTMLCharsetUTF8)
		return listing.Execute(c.Response(), map[string]any{"Stage": m.Stage, "Digest": m.Digest, "Files": rows})
	}
	ref, err := m.File(name)
	if err != nil {
		return c.String(http.StatusNotFound, err.Error()+"\n")
	}
	r, err := store.Open(ctx, ref)
	if err != nil {
		return c.String(http.StatusBadGateway, err.Error()+"\n")
	}
	defer r.Close()
	kind := mime.TypeByExtension(path.Ext(name))
	if slices.Contains([]string{".json", ".jsonl", ".md", ".csv", ".tex", ".txt"}, path.Ext(name)) {
		kind = echo.MIMETextPlainCharsetUTF8
	}
	return c.Stream(http.StatusOK, kind, r)
}
