package pairs

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

// What SFT learns from: a line a turn, the context as the role sees it, and the
// answer last, in both layouts.
func TestSFTSets(t *testing.T) {
	prompts, err := esc.BuiltinPrompts("paper")
	if err != nil {
		t.Fatal(err)
	}
	prompts = prompts.WithoutPastStrategies()
	turns := esc.AllTurns(dialogues())
	for role, want := range map[esc.Role]string{esc.VM: "[Reflection of feelings] You miss her.", esc.SP: "Reflection of feelings", esc.RG: "You miss her."} {
		for _, format := range Formats() {
			set, err := SFTSet("sft_"+string(role), format, prompts, role, turns)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := set.Write(&b); err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(b.String()), "\n")
			if len(lines) != len(turns) || set.Len() != len(turns) {
				t.Errorf("%s, %s: %d lines, want one of each of %d turns", role, format, len(lines), len(turns))
			}
			var row struct {
				Messages      []esc.Message
				Conversations []shareMessage
				System        string
			}
			found := false
			for _, line := range lines {
				if err := json.Unmarshal([]byte(line), &row); err != nil {
					t.Fatal(err)
				}
				texts, system := []string{}, row.System
				for i, m := range row.Messages {
					if i == 0 {
						system = m.Content
						continue
					}
					if who := []string{esc.UserRole, esc.AssistantRole}[(i+1)%2]; m.Role != who {
						t.Errorf("%s: message %d is the %s's, want the %s's", role, i, m.Role, who)
					}
					texts = append(texts, m.Content)
				}
				for i, m := range row.Conversations {
					if from := []string{"human", "gpt"}[i%2]; m.From != from {
						t.Errorf("%s: message %d is from %s, want %s", role, i, m.From, from)
					}
					texts = append(texts, m.Value)
				}
				if len(texts)%2 != 0 || system == "" || (len(row.Messages) > 0) != (format == TRL) {
					t.Errorf("%s, %s: %d messages under the system message %q", role, format, len(texts), system)
				}
				found = found || texts[len(texts)-1] == want
			}
			if !found {
				t.Errorf("%s, %s: no line ends with %q:\n%s", role, format, want, b.String())
			}
			described, err := Describe([]Set{set})
			var info map[string]dataset
			if err != nil || json.Unmarshal(described, &info) != nil || info[set.Name].FileName != set.File() || info[set.Name].Ranking {
				t.Errorf("%s: described as %s (%v), want %s without ranking", role, described, err, set.File())
			}
		}
	}
}
