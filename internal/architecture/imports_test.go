// Package architecture keeps the layering of the module: its tests say which
// package may import which, and that no file names a directory of somebody's
// machine. It has no code of its own.
package architecture

import (
	"bufio"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's directory, seen from this package.
const root = "../.."

// rule says what the packages of a tree may import: a directory with all below
// it that has no rule of its own. They may always import each other and the
// standard library.
type rule struct {
	tree string
	// ours are trees of this module; tests may import testOurs besides.
	ours, testOurs []string
	// light trees import no modules but these (prefixes of import paths);
	// their tests may. Others import whatever reserved leaves to them.
	light  bool
	theirs []string
}

// rules is the picture of CONTRIBUTING.md: imports point downwards.
var rules = []rule{
	{tree: "cmd", ours: []string{"workers", "workers/node", "workers/settings", "workers/stack", "workers/stack/connect", "workflows", "workflows/lab", "workflows/sweeptable",
		"internal/bench", "lm", "lm/engines", "lm/hub", "lm/tokens", "metrics", "judge", "judge/openai", "report", "results", "results/models", "results/compare", "results/tfevents", "results/pairs", "results/recipe", "results/human", "results/nightly",
		"esc", "experiments", "artifacts", "internal/inert", "internal/whole", "internal/jsonerror"}, testOurs: []string{"internal/crash", "artifacts/storetest", "internal/chattest", "internal/chaos", "internal/certtest", "internal/racing"}},

	// What polls stays apart from what embeds servers, so that a program that
	// only works remains small.
	{tree: "workers", ours: []string{"workers", "workers/settings", "workers/stack/connect", "activities", "workflows", "judge", "report", "experiments", "artifacts", "artifacts/s3", "esc", "internal/crash", "internal/memory", "internal/whole"},
		testOurs: []string{"workers/stack", "artifacts/storetest", "workflows/lab", "internal/racing"}},
	{tree: "workers/settings", ours: []string{"experiments", "internal/whole"}},
	{tree: "workers/stack", ours: []string{"workers/settings", "workers/stack/connect", "workers/stack/internal", "artifacts", "artifacts/s3", "internal/freeport"}, testOurs: []string{"artifacts/storetest", "internal/certtest"}},
	{tree: "workers/stack/connect", ours: []string{"workers/settings", "workers/stack/internal", "artifacts/s3"}, testOurs: []string{"internal/certtest"}},
	{tree: "workers/stack/internal"},

	{tree: "activities", ours: []string{"workflows", "workflows/lab", "workflows/sweeptable", "lm", "lm/tokens", "metrics", "judge", "judge/openai", "report", "results", "results/models", "results/nightly", "results/tfevents", "esc", "esc/tfidf", "experiments", "artifacts", "internal/memory", "internal/whole"},
		testOurs: []string{"artifacts/storetest", "internal/chattest", "internal/reference"}},
	{tree: "workflows", ours: []string{"experiments", "internal/inert"}, light: true, theirs: []string{"go.temporal.io/sdk", "go.temporal.io/api/enums"}},

	// What sees runs from outside executes nothing, and workflows see none of it.
	{tree: "workflows/lab", ours: []string{"workflows", "experiments", "artifacts"}, testOurs: []string{"artifacts/storetest"}, light: true,
		theirs: []string{"go.temporal.io/sdk", "go.temporal.io/api", "golang.org/x/sync/errgroup"}},

	// A sweep's table is made by an activity and by a command alike.
	{tree: "workflows/sweeptable", ours: []string{"workflows", "experiments", "artifacts", "report", "results"}, light: true, theirs: []string{"golang.org/x/sync/errgroup"}},

	{tree: "internal/bench", ours: []string{"lm", "lm/tokens", "esc", "internal/memory"}, light: true},

	{tree: "lm", ours: []string{"lm/engines", "lm/tokens", "internal/jsonerror"}, testOurs: []string{"internal/reference", "internal/memory"}},
	// Text becomes ids without a model, and without what computes one.
	{tree: "lm/tokens", ours: []string{"internal/jsonerror"}, testOurs: []string{"internal/reference"}, light: true, theirs: []string{"github.com/mitsuhiko/minijinja/minijinja-go/v2", "golang.org/x/text"}},
	// What is downloaded and from where stays apart from what computes.
	{tree: "lm/engines", ours: []string{"internal/whole"}, light: true, theirs: []string{"github.com/gomlx/compute-onnx/support/onnxruntime"}},
	{tree: "lm/hub", light: true, theirs: []string{"github.com/gomlx/go-huggingface/hub", "golang.org/x/sys"}},
	{tree: "metrics", ours: []string{"internal/jsonerror"}, light: true, theirs: []string{"github.com/neurosnap/sentences", "golang.org/x/text"}},
	{tree: "judge", ours: []string{"esc"}, testOurs: []string{"internal/logistic"}, light: true},
	{tree: "judge/openai", ours: []string{"judge", "esc"}, testOurs: []string{"internal/chattest"}, light: true,
		theirs: []string{"golang.org/x/sync", "golang.org/x/time"}},
	{tree: "internal/chattest", light: true},
	{tree: "report", ours: []string{"esc", "experiments", "internal/inert"}},
	// What artifacts hold is read without Temporal and without a kernel.
	{tree: "results", ours: []string{"artifacts", "esc", "experiments", "judge", "metrics"}},
	{tree: "results/models", ours: []string{"results", "lm", "lm/tokens", "esc", "experiments", "artifacts"}, testOurs: []string{"artifacts/storetest", "internal/reference", "results/recipe"}},
	{tree: "results/compare", ours: []string{"experiments", "internal/inert"}, light: true},
	{tree: "results/tfevents", ours: []string{"results"}, testOurs: []string{"internal/reference"}},
	{tree: "results/pairs", ours: []string{"esc", "internal/whole"}, light: true},
	{tree: "results/recipe", ours: []string{"esc", "experiments"}, light: true},
	{tree: "results/nightly", ours: []string{"internal/inert"}, light: true},
	{tree: "results/human", ours: []string{"esc", "metrics", "internal/inert"}, light: true},

	{tree: "esc", light: true},
	{tree: "esc/tfidf", ours: []string{"esc", "internal/logistic"}, testOurs: []string{"metrics"}, light: true},
	{tree: "experiments", ours: []string{"esc"}, light: true, theirs: []string{"github.com/goccy/go-yaml"}},
	// The store knows no service; the client of one stays apart from it.
	{tree: "artifacts", testOurs: []string{"artifacts/s3", "artifacts/storetest"}, light: true, theirs: []string{"golang.org/x/sync"}},
	{tree: "artifacts/s3", ours: []string{"artifacts"}, testOurs: []string{"artifacts/storetest"}, light: true, theirs: []string{"github.com/aws"}},
	{tree: "artifacts/storetest", ours: []string{"artifacts", "artifacts/s3", "internal/freeport"}},

	{tree: "internal"},
	{tree: "internal/certtest", light: true},
	{tree: "internal/crash", ours: []string{"internal/racing"}, light: true},
	{tree: "internal/freeport", light: true},
	{tree: "internal/racing", light: true},
	{tree: "internal/inert", light: true},
	{tree: "internal/jsonerror", light: true},
	{tree: "internal/licences", light: true},
	{tree: "internal/logistic", light: true},
	{tree: "internal/chaos", light: true},
	{tree: "internal/memory", light: true},
	{tree: "internal/vulnerabilities", light: true},
	{tree: "internal/whole", light: true},
	{tree: "internal/reference", light: true},
}

// reserved names the trees that alone may import a module (a prefix of import
// paths); nobody else does, not even in tests.
var reserved = []struct {
	module string
	trees  []string
}{
	// The embedded servers.
	{"go.temporal.io/server", []string{"workers/stack"}},
	{"github.com/temporalio/ui-server", []string{"workers/stack"}},
	{"github.com/versity/versitygw", []string{"workers/stack", "artifacts/storetest"}},
	{"github.com/gofiber/fiber", []string{"workers/stack"}},
	{"github.com/valyala/fasthttp", []string{"workers/stack"}},
	// Temporal's SDK.
	{"go.temporal.io", []string{"cmd", "workers", "workers/stack", "workers/stack/connect", "activities", "workflows", "workflows/lab"}},
	// The kernels, and the installer of an engine's library.
	{"github.com/gomlx/compute-onnx/support/onnxruntime", []string{"lm", "lm/engines"}},
	{"github.com/gomlx/go-huggingface/hub", []string{"lm/hub"}},
	{"github.com/gomlx", []string{"lm"}},
	// The engine of chat templates.
	{"github.com/mitsuhiko/minijinja", []string{"lm/tokens"}},
	// The S3 client.
	{"github.com/aws", []string{"artifacts/s3", "artifacts/storetest", "workers/stack", "workers/stack/connect"}},
	// What watches a worker.
	{"github.com/prometheus", []string{"workers"}},
	{"go.opentelemetry.io", []string{"workers"}},
	// Output for people.
	{"github.com/spf13/cobra", []string{"cmd"}},
	{"github.com/jedib0t/go-pretty", []string{"cmd"}},
	{"github.com/rs/zerolog", []string{"cmd", "workers", "workers/stack", "workers/stack/connect", "activities"}},
}

// within says whether a slash-separated path is a tree's root or lies below it.
func within(name, tree string) bool { return name == tree || strings.HasPrefix(name, tree+"/") }

// ruleOf finds the rule of a directory: the one with the longest tree.
func ruleOf(dir string) (rule, bool) {
	best, found := rule{}, false
	for _, r := range rules {
		if within(dir, r.tree) && (!found || len(r.tree) > len(best.tree)) {
			best, found = r, true
		}
	}
	return best, found
}

// check says why a file in dir may not import what; "" where it may.
func check(module, dir string, test bool, what string) string {
	r, found := ruleOf(dir)
	if !found {
		return "the directory has no rule in rules: decide which layer it belongs to"
	}
	if !strings.Contains(strings.SplitN(what, "/", 2)[0], ".") {
		return "" // standard library
	}
	if within(what, module) {
		target := strings.TrimPrefix(strings.TrimPrefix(what, module), "/")
		to, found := ruleOf(target)
		switch {
		case !found:
			return "it imports a directory without a rule"
		case to.tree == r.tree, slices.Contains(r.ours, to.tree), test && slices.Contains(r.testOurs, to.tree):
			return ""
		}
		return fmt.Sprintf("packages of %s may import of this module: %s", r.tree, list(append([]string{r.tree}, r.ours...)))
	}
	for _, m := range reserved {
		if within(what, m.module) {
			if !slices.Contains(m.trees, r.tree) {
				return fmt.Sprintf("only %s may import %s", list(m.trees), m.module)
			}
			break // the first, narrowest entry decides
		}
	}
	if r.light && !test && !slices.ContainsFunc(r.theirs, func(m string) bool { return within(what, m) }) {
		return fmt.Sprintf("packages of %s stay light; of other modules they import: %s", r.tree, list(r.theirs))
	}
	return ""
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

func TestImports(t *testing.T) {
	module := modulePath(t)
	files := token.NewFileSet()
	checked := 0
	walk(t, func(name string) {
		dir := path.Dir(name)
		if path.Ext(name) != ".go" {
			return
		}
		parsed, err := parser.ParseFile(files, filepath.Join(root, filepath.FromSlash(name)), nil, parser.ImportsOnly)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		for _, spec := range parsed.Imports {
			what, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Errorf("%s: import %s: %v", name, spec.Path.Value, err)
				continue
			}
			checked++
			if why := check(module, dir, strings.HasSuffix(name, "_test.go"), what); why != "" {
				t.Errorf("%s:%d imports %s: %s", name, files.Position(spec.Pos()).Line, what, why)
			}
		}
	})
	if checked < 100 {
		t.Errorf("only %d imports were looked at: is %s the module's root?", checked, root)
	}
}

// TestCheck makes sure that the rules refuse what they are there to refuse.
func TestCheck(t *testing.T) {
	const module = "github.com/esclab/esclab"
	for _, c := range []struct {
		dir, what string
		test, may bool
	}{
		{dir: "lm", what: "go.temporal.io/sdk/client"},
		{dir: "lm/cpu", what: module + "/esc"},
		{dir: "internal/bench", what: module + "/lm", may: true},
		{dir: "internal/bench", what: module + "/activities"},
		{dir: "internal/bench", what: "github.com/gomlx/gomlx/core/graph"},
		{dir: "lm", what: module + "/artifacts", test: true},
		{dir: "lm", what: module + "/lm/cpu", may: true},
		{dir: "lm", what: module + "/lm/engines", may: true},
		{dir: "lm", what: module + "/lm/tokens", may: true},
		{dir: "lm/tokens", what: module + "/lm"},
		{dir: "lm/tokens", what: module + "/lm", test: true},
		{dir: "lm/tokens", what: "github.com/gomlx/compute"},
		{dir: "lm/tokens", what: "github.com/mitsuhiko/minijinja/minijinja-go/v2", may: true},
		{dir: "lm", what: module + "/internal/reference"},
		{dir: "lm", what: "github.com/mitsuhiko/minijinja/minijinja-go/v2"},
		{dir: "lm/engines", what: module + "/lm"},
		{dir: "lm/engines", what: "github.com/gomlx/compute"},
		{dir: "lm/engines", what: "github.com/gomlx/compute-onnx/support/onnxruntime", may: true},
		{dir: "activities", what: module + "/lm/engines"},
		{dir: "lm", what: "github.com/gomlx/gomlx/core/graph", may: true},
		{dir: "activities", what: "github.com/gomlx/gomlx/core/graph"},
		{dir: "activities", what: module + "/workers"},
		{dir: "activities", what: module + "/workflows", may: true},
		{dir: "artifacts", what: module + "/experiments"},
		{dir: "artifacts", what: module + "/artifacts/storetest"},
		{dir: "artifacts", what: module + "/artifacts/storetest", test: true, may: true},
		{dir: "artifacts", what: module + "/artifacts/s3"},
		{dir: "artifacts", what: "github.com/aws/aws-sdk-go-v2/aws"},
		{dir: "artifacts", what: "github.com/aws/aws-sdk-go-v2/aws", test: true},
		{dir: "artifacts", what: "github.com/rs/zerolog"},
		{dir: "artifacts", what: "golang.org/x/sync/errgroup", may: true},
		{dir: "artifacts/s3", what: module + "/artifacts", may: true},
		{dir: "artifacts/s3", what: module + "/workers/settings"},
		{dir: "artifacts/s3", what: "github.com/aws/aws-sdk-go-v2/service/s3", may: true},
		{dir: "artifacts/s3", what: "github.com/versity/versitygw/embedgw", test: true},
		{dir: "activities", what: module + "/artifacts/s3"},
		{dir: "workers/node", what: "github.com/aws/aws-sdk-go-v2/aws"},
		{dir: "cmd/esclab", what: "github.com/aws/aws-sdk-go-v2/aws"},
		{dir: "workflows", what: module + "/lm"},
		{dir: "workflows", what: module + "/artifacts"},
		{dir: "workflows", what: "github.com/rs/zerolog"},
		{dir: "workflows", what: "golang.org/x/sync/errgroup"},
		{dir: "workflows", what: "go.temporal.io/sdk/workflow", may: true},
		{dir: "workflows", what: "github.com/stretchr/testify/mock", test: true, may: true},
		{dir: "workflows", what: module + "/workflows/lab"},
		{dir: "cmd/esclab", what: module + "/activities"},
		{dir: "cmd/esclab", what: module + "/activities", test: true},
		{dir: "cmd/esclab", what: module + "/results", may: true},
		{dir: "workflows/sweeptable", what: module + "/activities"},
		{dir: "activities", what: "github.com/mitsuhiko/minijinja/minijinja-go/v2"},
		{dir: "workflows/lab", what: module + "/activities"},
		{dir: "workflows/lab", what: module + "/workers/settings"},
		{dir: "workflows/lab", what: "github.com/spf13/cobra"},
		{dir: "workflows/lab", what: "github.com/rs/zerolog"},
		{dir: "workflows/lab", what: module + "/workflows", may: true},
		{dir: "workflows/lab", what: module + "/artifacts", may: true},
		{dir: "workflows/lab", what: "go.temporal.io/sdk/client", may: true},
		{dir: "activities", what: module + "/workflows/lab", may: true},
		{dir: "cmd/esclab", what: module + "/workflows/lab", may: true},
		{dir: "results/compare", what: module + "/workflows/lab"},
		{dir: "esc", what: "gonum.org/v1/gonum/stat"},
		{dir: "esc/democorpus", what: module + "/esc", may: true},
		{dir: "esc", what: module + "/experiments"},
		{dir: "experiments", what: module + "/esc", may: true},
		{dir: "metrics", what: module + "/esc"},
		{dir: "results", what: module + "/artifacts", may: true},
		{dir: "results", what: module + "/workflows"},
		{dir: "results", what: module + "/lm"},
		{dir: "results", what: "go.temporal.io/sdk/client"},
		{dir: "workers", what: module + "/workers/stack"},
		{dir: "workers/stack/connect", what: module + "/workers/stack"},
		{dir: "workers/stack/connect", what: "go.temporal.io/server/temporal"},
		{dir: "cmd/esclab", what: "go.temporal.io/server/temporal"},
		{dir: "cmd/esclab", what: module + "/workers/stack", may: true},
		{dir: "artifacts", what: "github.com/versity/versitygw/embedgw", test: true},
		{dir: "artifacts/storetest", what: "github.com/versity/versitygw/embedgw", may: true},
		{dir: "judge", what: "golang.org/x/time/rate"},
		{dir: "judge/openai", what: "golang.org/x/time/rate", may: true},
		{dir: "judge/openai", what: module + "/internal/chattest"},
		{dir: "judge/openai", what: module + "/internal/chattest", test: true, may: true},
		{dir: "elsewhere", what: "fmt"},
		{dir: "esc", what: "encoding/json", may: true},
	} {
		if why := check(module, c.dir, c.test, c.what); (why == "") != c.may {
			t.Errorf("%s importing %s (test %v): %q", c.dir, c.what, c.test, why)
		}
	}
}

// walk calls f for every file of the module but those that are built, by its
// slash-separated path from the root.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", "out"}, name) {
				return filepath.SkipDir
			}
			return nil
		}
		if entry.Type().IsRegular() {
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// modulePath reads the module's name from go.mod.
func modulePath(t *testing.T) string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(name)
		}
	}
	t.Fatal("go.mod names no module")
	return ""
}
