package pairs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

// dialogues are two short conversations, the second opened by the supporter.
func dialogues() []esc.Dialogue {
	say := func(s esc.Strategy, text string) esc.Utterance {
		return esc.Utterance{Speaker: esc.Supporter, Strategy: s, Text: text}
	}
	seek := func(text string) esc.Utterance {
		return esc.Utterance{Speaker: esc.Seeker, Strategy: esc.NoStrategy, Text: text}
	}
	return []esc.Dialogue{
		{Index: 0, Utterances: []esc.Utterance{seek("I lost my job."), say(esc.Reflection, "That must hurt."), seek("It does."), say(esc.Question, "Since when?")}},
		{Index: 1, Utterances: []esc.Utterance{say(esc.Others, "Hello."), seek("My cat <died> & I cry."), say(esc.Reflection, "You miss her.")}},
	}
}

func mined(t *testing.T) []Pair {
	t.Helper()
	turns := esc.AllTurns(dialogues())
	var all []esc.Pair
	add := func(role esc.Role, turn int, s esc.Sample) {
		p, ok := esc.MakePair(role, turns[turn], s)
		if !ok {
			t.Fatalf("no %s pair of %+v", role, s)
		}
		all = append(all, p)
	}
	add(esc.VM, 0, esc.Sample{Strategy: esc.Question, Response: "Why?"})
	add(esc.VM, 0, esc.Sample{Draw: 1, Strategy: esc.Reflection, Response: "Cheer up.", Errors: []esc.PsyError{esc.EarlyEmotionShift}, Reason: "too soon"})
	add(esc.VM, 1, esc.Sample{Strategy: esc.Others, Response: "Ok.", Errors: []esc.PsyError{esc.TemplateResponse}, Reason: "stock"})
	add(esc.SP, 2, esc.Sample{Strategy: esc.Question})
	add(esc.RG, 3, esc.Sample{Strategy: esc.Reflection, Response: "So what?", Errors: []esc.PsyError{esc.LackOfEmpathy, esc.TemplateResponse}, Reason: "dismisses"})
	joined, err := Join(all, dialogues())
	if err != nil {
		t.Fatal(err)
	}
	return joined
}

func TestFilter(t *testing.T) {
	all := mined(t)
	for _, c := range []struct {
		name   string
		filter Filter
		want   []int
	}{
		{"everything", Filter{}, []int{0, 1, 2, 3, 4}},
		{"role", Filter{Roles: []esc.Role{esc.SP}}, []int{3}},
		{"an error that is not the first", Filter{Errors: []esc.PsyError{esc.TemplateResponse}}, []int{2, 4}},
		{"strategy of either side", Filter{Strategies: []esc.Strategy{esc.Question}}, []int{0, 2, 3}},
		{"dialogue", Filter{Dialogues: []int{1}}, []int{3, 4}},
		{"kind", Filter{Kinds: []esc.Kind{esc.NsPr}}, []int{0}},
		{"two at once", Filter{Roles: []esc.Role{esc.VM}, Errors: []esc.PsyError{esc.StrategyMismatch}}, []int{0, 2}},
		{"nothing", Filter{Roles: []esc.Role{esc.SP}, Kinds: []esc.Kind{esc.NsPr}}, nil},
	} {
		got, found := Select(all, c.filter, 0)
		var want []Pair
		for _, i := range c.want {
			want = append(want, all[i])
		}
		same := func(a, b Pair) bool {
			return a.Role == b.Role && a.Dialogue == b.Dialogue && a.Turn == b.Turn && a.Draw == b.Draw
		}
		if found != len(want) || !slices.EqualFunc(got, want, same) {
			t.Errorf("%s: %d pairs %+v, want %+v", c.name, found, got, want)
		}
	}
	if got, found := Select(all, Filter{}, 2); len(got) != 2 || found != 5 {
		t.Errorf("limit 2: %d of %d", len(got), found)
	}
}

func TestJoinRefusesAnotherCorpus(t *testing.T) {
	all := []esc.Pair{mined(t)[0].Pair}
	other := dialogues()
	other[0].Utterances[1].Text = "Something else."
	if _, err := Join(all, other); err == nil || !strings.Contains(err.Error(), "dialogue 0, turn 0") {
		t.Errorf("another gold response: %v", err)
	}
	if _, err := Join(all, other[1:]); err == nil {
		t.Error("no such turn: no error")
	}
}

func TestCount(t *testing.T) {
	s := Count(mined(t), dialogues())
	if s.Corpus.Dialogues != 2 || s.Corpus.Assistant != 4 || s.Corpus.Strategies[esc.Reflection] != 2 {
		t.Errorf("corpus %+v", s.Corpus)
	}
	if len(s.Roles) != 3 {
		t.Fatalf("%d roles", len(s.Roles))
	}
	vm, rg := s.Roles[0], s.Roles[2]
	if vm.Pairs != 3 || vm.Turns != 2 || vm.PerError[esc.StrategyMismatch] != 2 || vm.PerError[esc.EarlyEmotionShift] != 1 ||
		vm.PerKind[esc.NsPr] != 1 || vm.PerKind[esc.PsNr] != 1 || vm.PerKind[esc.NsNr] != 1 ||
		vm.Gold[esc.Reflection] != 2 || vm.Rejected[esc.Others] != 1 {
		t.Errorf("vm %+v", vm)
	}
	// A pair counts once, by its first error.
	if rg.PerError[esc.LackOfEmpathy] != 1 || rg.PerError[esc.TemplateResponse] != 0 || rg.CharsChosen != 13 || rg.CharsRejected != 8 {
		t.Errorf("rg %+v", rg)
	}
}

// export writes the pairs and reads the lines of a file back.
func export(t *testing.T, format Format, prompts, file string) (lines []map[string]any, files []string, dir string) {
	t.Helper()
	p, err := esc.BuiltinPrompts(prompts)
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "out")
	if files, err = Export(dir, "demo", format, p, mined(t)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, row)
	}
	return lines, files, dir
}

// The rules that TRL's conversational preference format has: three lists of
// messages with role and content, the prompt ending with the user's, and no key
// that stands for another type of data.
func TestExportTRL(t *testing.T) {
	for _, role := range []string{"vm", "sp", "rg"} {
		rows, files, _ := export(t, TRL, "full", "demo_"+role+".jsonl")
		if !slices.Equal(files, []string{"demo_vm.jsonl", "demo_sp.jsonl", "demo_rg.jsonl"}) {
			t.Fatalf("files %q", files)
		}
		for _, row := range rows {
			for _, key := range []string{"label", "completion", "messages", "tools"} {
				if _, there := row[key]; there {
					t.Errorf("%s: key %q means something else to TRL", role, key)
				}
			}
			prompt := row["prompt"].([]any)
			for i, m := range prompt {
				want := []string{"assistant", "user"}[i%2]
				if i == 0 {
					want = "system"
				}
				if got := m.(map[string]any)["role"]; got != want {
					t.Errorf("%s: message %d of the prompt is the %v's, want the %s's", role, i, got, want)
				}
			}
			if last := prompt[len(prompt)-1].(map[string]any); last["role"] != "user" {
				t.Errorf("%s: the prompt ends with %v", role, last)
			}
			for _, side := range []string{"chosen", "rejected"} {
				m := row[side].([]any)
				if len(m) != 1 || m[0].(map[string]any)["role"] != "assistant" || m[0].(map[string]any)["content"] == "" {
					t.Errorf("%s: %s is %v", role, side, m)
				}
			}
			if len(row["errors"].([]any)) == 0 || row["reason"] == "" {
				t.Errorf("%s: no label or reason: %v", role, row)
			}
		}
	}
	rows, _, _ := export(t, TRL, "tiny", "demo_rg.jsonl")
	chosen := rows[0]["chosen"].([]any)[0].(map[string]any)["content"]
	rejected := rows[0]["rejected"].([]any)[0].(map[string]any)["content"]
	if chosen != "[Reflection of feelings] You miss her." || rejected != "[Reflection of feelings] So what?" {
		t.Errorf("chosen %q, rejected %q", chosen, rejected)
	}
	if seeker := rows[0]["prompt"].([]any); seeker[len(seeker)-1].(map[string]any)["content"] != "My cat <died> & I cry." {
		t.Errorf("the prompt %v", seeker)
	}
}

// The rules that LLaMA-Factory's converter has for sharegpt with ranking: human
// and gpt in turn, an odd number of messages, the last one the human's; what
// breaks them it skips without an error.
func TestExportLLaMAFactory(t *testing.T) {
	for _, role := range []string{"vm", "sp", "rg"} {
		rows, files, dir := export(t, LLaMAFactory, "full", "demo_"+role+".jsonl")
		for _, row := range rows {
			messages := row["conversations"].([]any)
			if len(messages)%2 == 0 {
				t.Errorf("%s: %d messages", role, len(messages))
			}
			for i, m := range messages {
				if got := m.(map[string]any)["from"]; got != []string{"human", "gpt"}[i%2] {
					t.Errorf("%s: message %d is from %v", role, i, got)
				}
			}
			for _, side := range []string{"chosen", "rejected"} {
				if m := row[side].(map[string]any); m["from"] != "gpt" || m["value"] == "" {
					t.Errorf("%s: %s is %v", role, side, m)
				}
			}
			if row["system"] == "" {
				t.Errorf("%s: no system message", role)
			}
		}
		var info map[string]dataset
		data, err := os.ReadFile(filepath.Join(dir, "dataset_info.json"))
		if err == nil {
			err = json.Unmarshal(data, &info)
		}
		if err != nil {
			t.Fatal(err)
		}
		d := info["demo_"+role]
		if !d.Ranking || d.Formatting != "sharegpt" || d.FileName != "demo_"+role+".jsonl" || !slices.Contains(files, d.FileName) {
			t.Errorf("%s: described as %+v", role, d)
		}
		for _, column := range d.Columns {
			if _, there := rows[0][column]; !there {
				t.Errorf("%s: dataset_info.json names the column %q, the data have none", role, column)
			}
		}
	}
}
