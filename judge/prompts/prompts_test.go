package prompts

import (
	"maps"
	"strings"
	"testing"
)

func texts(t *testing.T, protocol Protocol) map[string]string {
	t.Helper()
	set, err := Builtin(protocol)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, task := range protocol.Tasks() {
		files[task.File()] = set.files[task]
	}
	return files
}

// The built-in prompts are not in the parameters of stages: whoever changes
// them raises experiments.JudgePromptsVersion, which is.
func TestBuiltinDigest(t *testing.T) {
	for protocol, want := range map[Protocol]string{
		Joint: "9cf60747ff8f741d938b03f7b29c2ac73201c95dc61a52265048066a444a5472",
		Paper: "23be0be2eb2812326f743df4b681f5aa3279330a1d2061839fc746a195bff68d",
	} {
		set, err := Builtin(protocol)
		if err != nil {
			t.Fatal(err)
		}
		if got := set.Digest(); got != want {
			t.Errorf("the built-in prompts of protocol %s have digest %s, want %s: raise JudgePromptsVersion in experiments/kinds.go and set the digest here", protocol, got, want)
		}
	}
}

// A judge that is told how often replies are without fault finds them so.
func TestNoPriors(t *testing.T) {
	for _, protocol := range []Protocol{Joint, Paper} {
		for name, text := range texts(t, protocol) {
			for _, word := range []string{"most replies", "most supporters", "usually", "rarely", "often", "few replies", "likely"} {
				if strings.Contains(strings.ToLower(text), word) {
					t.Errorf("%s of protocol %s says %q: a prompt tells no frequencies", name, protocol, word)
				}
			}
		}
	}
}

// By the paper's protocol a question about quality shows the gold reply and
// asks for one criterion.
func TestPaperAsksOneThingBesideTheGoldReply(t *testing.T) {
	files := texts(t, Paper)
	criteria := []Task{Fluency, Professionalism, Empathy, Helpfulness}
	for _, task := range criteria {
		text := files[task.File()]
		if !strings.Contains(text, "{{gold}}") {
			t.Errorf("%s does not show the gold reply", task.File())
		}
		for _, other := range criteria {
			if asks := strings.Contains(text, string(other)+": "); asks != (other == task) {
				t.Errorf("%s asks about %s: %v, want %v", task.File(), other, asks, other == task)
			}
		}
	}
	if !strings.Contains(files[Filter.File()], "{{gold}}") {
		t.Error("the filter does not show the gold reply")
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
			files := texts(t, Joint)
			files[c.file] = c.change(files[c.file])
			if _, err := New(Joint, files); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	files := texts(t, Joint)
	delete(files, "scores.txt")
	files["score.txt"] = "x"
	if _, err := New(Joint, files); err == nil || !strings.Contains(err.Error(), "score.txt is not one of") {
		t.Errorf("a file of another name: %v", err)
	}
	delete(files, "score.txt")
	if _, err := New(Joint, files); err == nil || !strings.Contains(err.Error(), "scores.txt is missing; a set of prompts for protocol joint has errors.txt, preference.txt, scores.txt") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := New(Paper, texts(t, Joint)); err == nil || !strings.Contains(err.Error(), "errors.txt is not one of protocol paper") {
		t.Errorf("files of the other protocol: %v", err)
	}
	if _, err := New("both", files); err == nil || !strings.Contains(err.Error(), "unknown protocol") {
		t.Errorf("an unknown protocol: %v", err)
	}
}

// What is filled in stays as it is, even where it looks like a placeholder.
func TestFill(t *testing.T) {
	set, err := Builtin(Joint)
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
	before, err := New(Joint, texts(t, Joint))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range Joint.Tasks() {
		files := maps.Clone(texts(t, Joint))
		files[task.File()] += "."
		after, err := New(Joint, files)
		if err != nil {
			t.Fatal(err)
		}
		if before.Digest() == after.Digest() {
			t.Errorf("%s does not count", task.File())
		}
		files[task.File()] = strings.ReplaceAll(texts(t, Joint)[task.File()], "\n", "\r\n")
		if after, err = New(Joint, files); err != nil || before.Digest() != after.Digest() {
			t.Errorf("%s: line endings count (%v)", task.File(), err)
		}
	}
}
