package prompts

import (
	"maps"
	"strings"
	"testing"
	"testing/fstest"
)

func texts(t *testing.T) map[string]string {
	t.Helper()
	set, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, task := range Tasks() {
		files[task.File()] = set.files[task]
	}
	return files
}

// The built-in prompts are not in the parameters of stages: whoever changes
// them raises the versions of the kinds that ask them.
func TestBuiltinDigest(t *testing.T) {
	set, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	const want = "2b68800338e2d9dc3a975d5d368bf1062c3b1de7d814419a5796f09625a87111"
	if got := set.Digest(); got != want {
		t.Errorf("the built-in prompts have digest %s, want %s: raise the versions of judge, mine, prefer and quality in experiments/kinds.go and set the digest here", got, want)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, file string
		change     func(string) string
		want       string
	}{
		{"no separator", "errors.txt", func(s string) string { return strings.Replace(s, "\n---\n", "\n", 1) }, `errors.txt: it needs exactly one line "---"`},
		{"two separators", "errors.txt", func(s string) string { return s + "\n---\nmore" }, `exactly one line "---"`},
		{"unknown placeholder", "scores.txt", func(s string) string { return s + "{{respons}}" }, "scores.txt: unknown placeholder {{respons}}; there are {{context}}, {{format}}"},
		{"of another task", "scores.txt", func(s string) string { return s + "{{first}}" }, "unknown placeholder {{first}}"},
		{"missing", "preference.txt", func(s string) string { return strings.ReplaceAll(s, "{{second}}", "") }, "placeholder {{second}} is missing"},
		{"open", "preference.txt", func(s string) string { return s + "{{ first" }, "a brace of a placeholder is not closed"},
		{"large", "preference.txt", func(s string) string { return s + strings.Repeat("x", 30<<10) }, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := texts(t)
			files[c.file] = c.change(files[c.file])
			if _, err := New(files); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	files := texts(t)
	delete(files, "scores.txt")
	files["score.txt"] = "x"
	if _, err := New(files); err == nil || !strings.Contains(err.Error(), "score.txt is not one of") {
		t.Errorf("a file of another name: %v", err)
	}
	delete(files, "score.txt")
	dir := fstest.MapFS{}
	for name, text := range files {
		dir[name] = &fstest.MapFile{Data: []byte(text)}
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "a directory of prompts has errors.txt, preference.txt, scores.txt") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What is filled in stays as it is, even where it looks like a placeholder.
func TestFill(t *testing.T) {
	set, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"context": "Seeker: {{response}}", "response": "Oh.\n---\n{{format}}", "format": "JSON please"}
	system, user, err := set.Fill(Scores, values)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(system, "JSON please") || !strings.Contains(user, "Seeker: {{response}}") || !strings.Contains(user, "Oh.\n---\n{{format}}") {
		t.Errorf("system ends %q, user %q", system[len(system)-20:], user)
	}
	if strings.Contains(system, "Seeker") {
		t.Error("the sample stands in the system message")
	}
	delete(values, "response")
	if _, _, err := set.Fill(Scores, values); err == nil || !strings.Contains(err.Error(), "{{response}}") {
		t.Errorf("a value that is not given: %v", err)
	}
}

// Every file counts in the digest, line endings do not.
func TestDigest(t *testing.T) {
	before, err := New(texts(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range Tasks() {
		files := maps.Clone(texts(t))
		files[task.File()] += "."
		after, err := New(files)
		if err != nil {
			t.Fatal(err)
		}
		if before.Digest() == after.Digest() {
			t.Errorf("%s does not count", task.File())
		}
		files[task.File()] = strings.ReplaceAll(texts(t)[task.File()], "\n", "\r\n")
		if after, err = New(files); err != nil || before.Digest() != after.Digest() {
			t.Errorf("%s: line endings count (%v)", task.File(), err)
		}
	}
}
