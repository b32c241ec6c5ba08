package pairs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/whole"
)

// Format is a layout of preference data that a trainer loads.
type Format string

const (
	// TRL is the conversational preference format with an explicit prompt of
	// Hugging Face TRL: prompt, chosen and rejected are lists of messages.
	TRL Format = "trl"
	// LLaMAFactory is LLaMA-Factory's sharegpt preference format: conversations,
	// chosen and rejected, described by a dataset_info.json beside the data.
	LLaMAFactory Format = "llamafactory"
)

// Formats lists the layouts.
func Formats() []Format { return []Format{TRL, LLaMAFactory} }

// about is what each exported line has besides the trainer's own keys, which
// ignores it. No key may be called "label": TRL takes that for the label of
// unpaired preferences.
type about struct {
	Dialogue int            `json:"dialogue"`
	Turn     int            `json:"turn"`
	Draw     int            `json:"draw"`
	Kind     esc.Kind       `json:"kind"` // "" but for vm
	Errors   []esc.PsyError `json:"errors"`
	Reason   string         `json:"reason"`
	Gold     esc.Strategy   `json:"gold_strategy"`
	Strategy esc.Strategy   `json:"strategy"`
}

func (p Pair) about() about {
	return about{p.Dialogue, p.Turn, p.Draw, p.Kind, p.Errors, p.Reason, p.Gold, p.Strategy}
}

// trlLine is a row as TRL's DPOTrainer takes it.
type trlLine struct {
	Prompt   []esc.Message `json:"prompt"`
	Chosen   []esc.Message `json:"chosen"`
	Rejected []esc.Message `json:"rejected"`
	about
}

// shareMessage is a message of the sharegpt layout.
type shareMessage struct {
	From  string `json:"from"` // human or gpt
	Value string `json:"value"`
}

// shareLine is a row as LLaMA-Factory takes it with "ranking": true.
type shareLine struct {
	Conversations []shareMessage `json:"conversations"` // human, gpt, … human
	Chosen        shareMessage   `json:"chosen"`
	Rejected      shareMessage   `json:"rejected"`
	System        string         `json:"system"`
	about
}

// dataset describes a file in LLaMA-Factory's dataset_info.json.
type dataset struct {
	FileName   string            `json:"file_name"`
	Formatting string            `json:"formatting"`
	Ranking    bool              `json:"ranking"`
	Columns    map[string]string `json:"columns"`
}

// sftLine is a row as TRL's SFTTrainer takes it: the answer is the last message.
type sftLine struct {
	Messages []esc.Message `json:"messages"`
	place
}

// shareSFTLine is a row as LLaMA-Factory takes it for SFT.
type shareSFTLine struct {
	Conversations []shareMessage `json:"conversations"` // human, gpt, … gpt
	System        string         `json:"system"`
	place
}

// place is what a line of SFT data has besides the trainer's own keys.
type place struct {
	Dialogue int          `json:"dialogue"`
	Turn     int          `json:"turn"`
	Strategy esc.Strategy `json:"strategy"`
}

// Set is data of one role in a trainer's layout.
type Set struct {
	Name  string
	lines []any
	info  dataset
}

// File is the name of the set's file.
func (s Set) File() string { return s.Name + ".jsonl" }

// Len counts the set's lines.
func (s Set) Len() int { return len(s.lines) }

// Write writes the set's file: JSON lines.
func (s Set) Write(w io.Writer) error { return encodeLines(w, s.lines) }

// PairSet makes a set of the pairs of a role. The prompts have to be those of the
// run.
//
// The whole message of the assistant stands on each side, the generator's too:
// neither layout has a place for the strategy that it is given. As both sides
// begin with it, its tokens cancel out in losses of log-probabilities' ratios
// (DPO, IPO). Contexts are whole: the trainer cuts them to its own limit.
func PairSet(name string, format Format, prompts esc.Prompts, role esc.Role, all []Pair) (Set, error) {
	s := Set{Name: name, info: dataset{name + ".jsonl", "sharegpt", true, map[string]string{
		"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system",
	}}}
	for _, p := range all {
		if p.Role != role {
			continue
		}
		line, err := p.line(format, prompts)
		if err != nil {
			return s, err
		}
		s.lines = append(s.lines, line)
	}
	return s, nil
}

// SFTSet makes a set of what a role learns in SFT: a line a turn, with the whole
// context and the answer as the last message, which alone has a loss in esclab. The
// prompts have to be those of the run.
func SFTSet(name string, format Format, prompts esc.Prompts, role esc.Role, turns []esc.Turn) (Set, error) {
	s := Set{Name: name, info: dataset{name + ".jsonl", "sharegpt", false, map[string]string{"messages": "conversations", "system": "system"}}}
	for _, turn := range turns {
		e, err := prompts.Example(role, turn)
		if err != nil {
			return s, err
		}
		at := place{turn.Dialogue, turn.Index, turn.Strategy}
		messages := append(slices.Clone(e.Messages), esc.Message{Role: esc.AssistantRole, Content: e.AnswerPrefix + e.Answer})
		if format == LLaMAFactory {
			system, conversations := share(messages)
			s.lines = append(s.lines, shareSFTLine{conversations, system, at})
		} else {
			s.lines = append(s.lines, sftLine{messages, at})
		}
	}
	return s, nil
}

// FileDescribed is LLaMA-Factory's description of the files beside it.
const FileDescribed = "dataset_info.json"

// Describe is the content of FileDescribed.
func Describe(sets []Set) ([]byte, error) {
	info := map[string]dataset{}
	for _, s := range sets {
		info[s.Name] = s.info
	}
	data, err := json.MarshalIndent(info, "", "  ")
	return append(data, '\n'), err
}

// Export writes pairs into dir, which it makes, one set a role: NAME_ROLE.jsonl. It
// returns the files' names.
func Export(dir, name string, format Format, prompts esc.Prompts, all []Pair) ([]string, error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) {
		return nil, fmt.Errorf("%q cannot name files: use letters, digits, '.', '-' and '_'", name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var files []string
	var sets []Set
	for _, role := range esc.Roles() {
		s, err := PairSet(name+"_"+string(role), format, prompts, role, all)
		if err != nil {
			return files, err
		}
		if s.Len() == 0 {
			continue
		}
		if err := whole.Create(filepath.Join(dir, s.File()), whole.Private, s.Write); err != nil {
			return files, err
		}
		files, sets = append(files, s.File()), append(sets, s)
	}
	if format != LLaMAFactory || len(files) == 0 {
		return files, nil
	}
	data, err := Describe(sets)
	if err != nil {
		return files, err
	}
	if err := whole.Write(filepath.Join(dir, FileDescribed), whole.Public, data); err != nil {
		return files, err
	}
	return append(files, FileDescribed), nil
}

// line is the pair in a layout.
func (p Pair) line(format Format, prompts esc.Prompts) (any, error) {
	chosen, rejected, err := prompts.Examples(p.Pair, p.turn())
	if err != nil {
		return nil, err
	}
	good, bad := chosen.AnswerPrefix+chosen.Answer, rejected.AnswerPrefix+rejected.Answer
	switch format {
	case TRL:
		assistant := func(text string) []esc.Message { return []esc.Message{{Role: esc.AssistantRole, Content: text}} }
		return trlLine{chosen.Messages, assistant(good), assistant(bad), p.about()}, nil
	case LLaMAFactory:
		system, conversations := share(chosen.Messages)
		return shareLine{conversations, shareMessage{"gpt", good}, shareMessage{"gpt", bad}, system, p.about()}, nil
	}
	return nil, fmt.Errorf("unknown format %q: use %s", format, names(Formats()))
}

// share puts a chat into the sharegpt layout.
func share(messages []esc.Message) (system string, conversations []shareMessage) {
	for _, m := range messages {
		switch m.Role {
		case esc.SystemRole:
			system = m.Content
		case esc.UserRole:
			conversations = append(conversations, shareMessage{"human", m.Content})
		default:
			conversations = append(conversations, shareMessage{"gpt", m.Content})
		}
	}
	return system, conversations
}

func names(formats []Format) string {
	var all []string
	for _, f := range formats {
		all = append(all, string(f))
	}
	return strings.Join(all, " or ")
}

// ParseFormat reads a format's name.
func ParseFormat(name string) (Format, error) {
	for _, f := range Formats() {
		if string(f) == name {
			return f, nil
		}
	}
	return "", fmt.Errorf("unknown format %q: use %s", name, names(Formats()))
}

func encodeLines(w io.Writer, lines []any) error {
	buffered := bufio.NewWriter(w)
	e := json.NewEncoder(buffered)
	e.SetEscapeHTML(false)
	for _, line := range lines {
		if err := e.Encode(line); err != nil {
			return err
		}
	}
	return buffered.Flush()
}
