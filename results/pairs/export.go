package pairs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// Export writes pairs into dir, which it makes, one file of JSON lines a role:
// NAME_ROLE.jsonl. It returns the files' names. The prompts have to be those of
// the run.
//
// The whole message of the assistant stands on each side, the generator's too:
// neither layout has a place for the strategy that it is given. As both sides
// begin with it, its tokens cancel out in losses of log-probabilities' ratios
// (DPO, IPO). Contexts are whole: the trainer cuts them to its own limit.
func Export(dir, name string, format Format, prompts esc.Prompts, all []Pair) ([]string, error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) {
		return nil, fmt.Errorf("%q cannot name files: use letters, digits, '.', '-' and '_'", name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var files []string
	info := map[string]dataset{}
	for _, role := range esc.Roles() {
		var lines []any
		for _, p := range all {
			if p.Role != role {
				continue
			}
			line, err := p.line(format, prompts)
			if err != nil {
				return files, err
			}
			lines = append(lines, line)
		}
		if len(lines) == 0 {
			continue
		}
		set := name + "_" + string(role)
		file := set + ".jsonl"
		if err := writeLines(filepath.Join(dir, file), lines); err != nil {
			return files, err
		}
		files = append(files, file)
		info[set] = dataset{file, "sharegpt", true, map[string]string{
			"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system",
		}}
	}
	if format != LLaMAFactory || len(files) == 0 {
		return files, nil
	}
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return files, err
	}
	const described = "dataset_info.json"
	if err := whole.Write(filepath.Join(dir, described), whole.Public, append(data, '\n')); err != nil {
		return files, err
	}
	return append(files, described), nil
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
		line := shareLine{Chosen: shareMessage{"gpt", good}, Rejected: shareMessage{"gpt", bad}, about: p.about()}
		for _, m := range chosen.Messages {
			switch m.Role {
			case esc.SystemRole:
				line.System = m.Content
			case esc.UserRole:
				line.Conversations = append(line.Conversations, shareMessage{"human", m.Content})
			default:
				line.Conversations = append(line.Conversations, shareMessage{"gpt", m.Content})
			}
		}
		return line, nil
	}
	return nil, fmt.Errorf("unknown format %q: use %s", format, names(Formats()))
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

func writeLines(path string, lines []any) error {
	return whole.Create(path, whole.Private, func(w io.Writer) error { return encodeLines(w, lines) })
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
