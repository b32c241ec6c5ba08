package artifacts_test

import (
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
)

func ageFile(path string, hours int) error {
	at := time.Now().Add(time.Duration(hours) * time.Hour)
	return os.Chtimes(path, at, at)
}

func TestEscapeSegment(t *testing.T) {
	for name, want := range map[string]string{
		"model.safetensors": "model.safetensors",
		"..":                "%2E.",
		".hidden":           "%2Ehidden",
		"../../etc":         "%2E.%2F..%2Fetc",
		"stage/sft/ab%2F":   "stage%2Fsft%2Fab%252F",
		"a b\x00":           "a%20b%00",
		"é":                 "%C3%A9",
		"a:b":               "a%3Ab",
	} {
		if got, err := artifacts.EscapeSegment(name); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", strings.Repeat("a", 201), strings.Repeat("/", 67)} {
		_, err := artifacts.EscapeSegment(name)
		wantErr(t, err, artifacts.ErrInvalidKey)
	}
}

func FuzzEscapeSegment(f *testing.F) {
	for _, s := range []string{"a", "..", "a/b", "%2F", "\xff", "日本"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		escaped, err := artifacts.EscapeSegment(name)
		if err != nil {
			return
		}
		if back, err := url.PathUnescape(escaped); err != nil || back != name {
			t.Errorf("%q → %q → %q, %v", name, escaped, back, err)
		}
		if err := artifacts.ValidKey("runs/" + escaped); err != nil || strings.Contains(escaped, "/") {
			t.Errorf("%q → %q: %v", name, escaped, err)
		}
	})
}

func TestValidKeyLimits(t *testing.T) {
	for key, valid := range map[string]bool{
		strings.Repeat("a", 200):                              true,
		strings.Repeat("a", 201):                              false,
		strings.Repeat(strings.Repeat("a", 100)+"/", 8) + "a": true,
		strings.Repeat(strings.Repeat("a", 100)+"/", 9) + "a": false,
	} {
		if err := artifacts.ValidKey(key); (err == nil) != valid {
			t.Errorf("%d bytes: %v", len(key), err)
		}
	}
}
