package experiments

import (
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// TestPresetsExplainEveryKey: a header that says how to run it, a comment at
// every key, and every key of an experiment present, so that a reader sees the
// whole of it.
func TestPresetsExplainEveryKey(t *testing.T) {
	key := regexp.MustCompile(`^\s*[a-z_0-9]+:`)
	block := regexp.MustCompile(`^(corpus|backbone|limits|  split):$`) // named after the word itself
	for _, name := range Presets() {
		content, err := PresetYAML(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(content), "\n")
		if !strings.HasPrefix(lines[0], "# "+name+":") || !strings.Contains(string(content), "esclab run "+name) {
			t.Errorf("%s: the header does not say what it is and how to run it", name)
		}
		for i, line := range lines {
			if key.MatchString(line) && !strings.Contains(line, " # ") && !block.MatchString(line) {
				t.Errorf("%s.yaml:%d: no comment at %q", name, i+1, line)
			}
		}

		var tree map[string]any
		if err := yaml.Unmarshal(content, &tree); err != nil {
			t.Fatal(err)
		}
		tiny := mustLoad(t, name).Backbone.Tiny != nil
		for _, k := range Keys() {
			if strings.HasPrefix(k, "mining.judge.") {
				k = "mining.judge" // a section with the keys of judge
			}
			if k == "backbone.path" && tiny || strings.HasPrefix(k, "backbone.tiny") && !tiny {
				continue // one or the other
			}
			if !has(tree, strings.Split(k, ".")) {
				t.Errorf("%s.yaml does not show %s", name, k)
			}
		}
	}
}

func has(tree any, path []string) bool {
	if len(path) == 0 {
		return true
	}
	m, ok := tree.(map[string]any)
	if !ok {
		return false
	}
	next, ok := m[path[0]]
	return ok && has(next, path[1:])
}
