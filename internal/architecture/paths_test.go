package architecture

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// machinePath matches a path into the working directory of a build machine or
// into a home directory. It is put together so that it does not match itself.
// Relative paths ("../work/") and parts of longer ones ("lib/root/") are fine,
// and so is the made-up user of a test's HOME.
var machinePath = regexp.MustCompile(`(?:^|[^\w.~$}-])/(?:` + `work|root|Users|home/[a-z_]\w*` + `)/`)

// madeUp are homes that tests invent.
var madeUp = []byte("/home/" + "someone/")

// textual are the endings and names of the files that people write.
var textual = []string{".go", ".md", ".yaml", ".yml", ".txt", ".json", ".jsonl", ".tmpl", ".css", ".html", ".sh",
	".c", ".h", ".inc", ".s", ".mod", "Makefile", "run", ".gitignore"}

func TestNoMachinePaths(t *testing.T) {
	walk(t, func(name string) {
		if !slices.Contains(textual, path.Ext(name)) && !slices.Contains(textual, path.Base(name)) {
			return
		}
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Error(err)
			return
		}
		for i, line := range bytes.Split(data, []byte("\n")) {
			if found := machinePath.Find(bytes.ReplaceAll(line, madeUp, nil)); found != nil {
				t.Errorf("%s:%d names a directory of a machine (%s): use a relative path, a temporary directory or a placeholder", name, i+1, found)
			}
		}
	})
}

func TestMachinePath(t *testing.T) {
	slash := "/"
	for text, want := range map[string]bool{
		"see " + slash + "work/main":        true,
		`"` + slash + "root/.cache":         true,
		"file://" + slash + "home/ann/x":    true,
		slash + "Users/ann/x":               true,
		"../work/main":                      false,
		"lib/root/x":                        false,
		"$HOME/work/x and ${HOME}/root/x":   false,
		"https://example.org/work/paper":    false,
		"/usr/lib/work":                     false,
		"the root" + slash + " of the tree": false,
	} {
		if got := machinePath.MatchString(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
