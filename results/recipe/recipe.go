// Package recipe says how the systems of a run reply, for programs that are not
// esclab: prompts.json beside a folder's adapters, and inference.py, which builds the
// replies of it with transformers and peft.
package recipe

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// The files of a recipe.
const (
	FilePrompts = "prompts.json"
	FileScript  = "inference.py"
)

// Script is inference.py.
//
//go:embed inference.py
var Script string

// Recipe is prompts.json.
type Recipe struct {
	Backbone   string            `json:"backbone"` // its name
	Strategies []Strategy        `json:"strategies"`
	Spellings  map[string]string `json:"spellings"` // other names that are read as one of the strategies
	// Unread is what the generator is given where the planner's answer names no strategy.
	Unread  string            `json:"unread"`
	Systems map[string]System `json:"systems"` // by name, with the seed where there are several
}

// Strategy is one of the eight.
type Strategy struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
}

// System is how one system replies.
type System struct {
	// Planner names the role that chooses a strategy before the reply; "" where the
	// writer does, or where the strategy is given.
	Planner esc.Role `json:"planner,omitempty"`
	Writer  esc.Role `json:"writer"`
	// Base is the backbone's folder; "" where it is not in this folder. Adapters are
	// those of the roles that were trained.
	Base     string                    `json:"base,omitempty"`
	DType    experiments.DType         `json:"dtype"`
	Adapters map[esc.Role]string       `json:"adapters,omitempty"`
	Prompts  map[esc.Role]esc.Template `json:"prompts"`
	// MaxTokens bounds prompt and reply together: longer prompts lose their oldest exchanges.
	MaxTokens int                        `json:"max_tokens"`
	Sampling  map[esc.Role]Sampling      `json:"sampling"`
	Strategy  experiments.StrategyChoice `json:"strategy"` // free or constrained
}

// Sampling is how a role's tokens are drawn, in transformers' words.
type Sampling struct {
	DoSample          bool    `json:"do_sample"`
	Temperature       float64 `json:"temperature"`
	TopP              float64 `json:"top_p"`
	TopK              int     `json:"top_k"`
	RepetitionPenalty float64 `json:"repetition_penalty"`
	MaxNewTokens      int     `json:"max_new_tokens"`
}

// New is a recipe of no system yet.
func New(backbone string) *Recipe {
	r := &Recipe{Backbone: backbone, Spellings: map[string]string{}, Unread: esc.Others.String(), Systems: map[string]System{}}
	for _, s := range esc.Strategies() {
		r.Strategies = append(r.Strategies, Strategy{s.String(), s.Definition()})
	}
	for spelling, s := range esc.StrategySpellings() {
		r.Spellings[spelling] = s.String()
	}
	return r
}

// Add adds the system that replies as a generate stage does; adapters names the folders of
// the roles' adapters. A prompt baseline, which replies in several steps, is
// left out.
func (r *Recipe) Add(name, base string, adapters map[esc.Role]string, p experiments.GenerateParams) error {
	if p.Method.Texts() > 1 {
		return nil
	}
	prompts, err := p.RolePrompts()
	if err != nil {
		return fmt.Errorf("system %s: %w", name, err)
	}
	s := System{
		Writer: esc.RG, Base: base, DType: experiments.DTypeFloat32, Adapters: adapters, MaxTokens: p.MaxTokens, Strategy: experiments.StrategyFree,
		Prompts: map[esc.Role]esc.Template{}, Sampling: map[esc.Role]Sampling{},
	}
	if p.BaseType != "" {
		s.DType = p.BaseType
	}
	if p.Strategy != "" {
		s.Strategy = p.Strategy
	}
	switch p.Paradigm {
	case experiments.Vanilla:
		s.Writer = esc.VM
	case experiments.Decoupled:
		s.Planner = esc.SP
	}
	for _, role := range p.Paradigm.Roles() {
		drawn := p.Sampling
		if role == esc.SP {
			drawn = drawn.Planning()
		}
		s.Prompts[role], s.Sampling[role] = prompts.Template(role), samplingOf(drawn)
	}
	r.Systems[name] = s
	return nil
}

func samplingOf(p experiments.Sampling) Sampling {
	s := Sampling{DoSample: !p.Greedy, Temperature: p.Temperature, TopP: p.TopP, TopK: p.TopK, RepetitionPenalty: p.RepetitionPenalty, MaxNewTokens: p.MaxNewTokens}
	if p.Greedy {
		s.Temperature, s.TopP = 1, 1
	}
	if s.RepetitionPenalty == 0 {
		s.RepetitionPenalty = 1
	}
	return s
}

// JSON is the recipe as prompts.json has it.
func (r *Recipe) JSON() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}
