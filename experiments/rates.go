package experiments

import "fmt"

// Rates are how fast a machine computes with a backbone of so many parameters.
type Rates struct {
	Parameters float64
	Train      float64 // turns a second, in SFT
	Pairs      float64 // a second, in DPO
	Decode     float64 // new tokens a second, of 16 replies side by side
	Prefill    float64 // tokens a second
	// SFTBytes and DPOBytes are the process's peak where no activation is computed twice.
	SFTBytes, DPOBytes float64
	// DecodeBytes are where replies are sampled, ReferenceBytes where log-probabilities are computed; 0: not known.
	DecodeBytes, ReferenceBytes float64
}

// TwoCores are rates that were measured with SmolLM2-135M in float32, on two quiet cores with AVX-512 (docs/performance.md,
// "A real model"): SP-SFT and RG-DPO on packed trees in batches of 8, and the lower of two readings of each.
var TwoCores = Rates{Parameters: 134.5e6, Train: 1.32, Pairs: 0.95, Decode: 394, Prefill: 849, SFTBytes: 7.3 * (1 << 30), DPOBytes: 12.9 * (1 << 30)}

// Turns counts the supporter's turns of each split.
type Turns struct{ Train, Valid, Test float64 }

// Of an ESConv turn with the full prompts, about: the tokens that a reply has, and those that a dialogue adds to a
// sequence for each of its turns, the system prompt's share among them. A planner writes a strategy's name alone. Turns
// that are drawn one by one have half a dialogue of 14 turns before them.
const (
	replyTokens   = 30
	plannerTokens = 5
	turnTokens    = 90
	promptTokens  = 7 * turnTokens
)

// prompts are the tokens of so many turns' prompts, drawn of all: no more than all dialogues have, whose turns share
// their prefixes.
func prompts(drawn, all float64) float64 { return min(drawn*promptTokens, all*turnTokens) }

// Forecast is about how long a run's stages take, one after the other, and the memory that the largest needs.
type Forecast struct {
	Stages  []StageForecast
	Seconds map[Kind]float64
	Bytes   float64
}

// StageForecast is about how long a stage takes, and the memory that it needs; 0 bytes: not known.
type StageForecast struct {
	Name           string
	Seconds, Bytes float64
}

// Total adds up the seconds.
func (f Forecast) Total() (seconds float64) {
	for _, s := range f.Seconds {
		seconds += s
	}
	return seconds
}

// Forecast guesses the time of a plan's stages that are to be run, with a model of so many parameters. Where nothing bounds them, there are
// as many pairs as mined turns. Validation and reference log-probabilities go forward alone: a third of a step.
func (r Rates) Forecast(plan []PlannedStage, parameters float64, turns Turns) (Forecast, error) {
	f := Forecast{Seconds: map[Kind]float64{}}
	larger := parameters / r.Parameters
	pairs := map[string]float64{} // by the mining's name
	for _, planned := range plan {
		s, seconds, bytes := planned.Stage, 0.0, 0.0
		switch s.Kind {
		case KindSFT:
			p, err := ParamsOf[SFTParams](s)
			if err != nil {
				return f, err
			}
			seconds = (p.examples(turns.Train) + turns.Valid/3) / r.Train
			bytes = r.SFTBytes * larger
		case KindMine:
			p, err := ParamsOf[MineParams](s)
			if err != nil {
				return f, err
			}
			mined := atMost(turns.Train, p.MaxTurns)
			reply := float64(replyTokens)
			if p.Role == "sp" {
				reply = plannerTokens
			}
			seconds = mined * (turnTokens/r.Prefill + float64(p.Samples)*min(reply, float64(p.MaxNewTokens))/r.Decode)
			bytes = r.DecodeBytes * larger
			pairs[s.Name] = mined
		case KindReference, KindDPO:
			mined := 0.0
			for _, input := range s.Inputs {
				mined += pairs[input]
			}
			seconds, bytes = mined/3/r.Pairs, r.ReferenceBytes*larger
			if s.Kind == KindDPO {
				p, err := ParamsOf[DPOParams](s)
				if err != nil {
					return f, err
				}
				seconds = p.examples(mined) / r.Pairs
				bytes = r.DPOBytes * larger
			}
		case KindGenerate:
			p, err := ParamsOf[GenerateParams](s)
			if err != nil {
				return f, err
			}
			drawn := atMost(turns.Test, p.MaxTurns)
			seconds = float64(p.Method.Texts()) * (prompts(drawn, turns.Test)/r.Prefill + drawn*min(replyTokens, float64(p.MaxNewTokens))/r.Decode)
			bytes = r.DecodeBytes * larger
		case KindStrategies:
			p, err := ParamsOf[StrategiesParams](s)
			if err != nil {
				return f, err
			}
			seconds = prompts(atMost(turns.Test, p.MaxTurns), turns.Test) / r.Prefill
			bytes = r.ReferenceBytes * larger
		default:
			continue
		}
		if planned.Action != ActionReuse {
			f.Stages = append(f.Stages, StageForecast{s.Name, seconds * larger, bytes})
			f.Seconds[s.Kind] += seconds * larger
			f.Bytes = max(f.Bytes, bytes)
		}
	}
	return f, nil
}

// examples counts what a training computes: passes over so many examples, or its steps.
func (t Training) examples(all float64) float64 {
	all *= float64(t.Epochs)
	if t.MaxSteps > 0 {
		all = min(all, float64(t.MaxSteps*t.BatchSize))
	}
	return all
}

func atMost(n float64, limit int) float64 {
	if limit > 0 {
		return min(n, float64(limit))
	}
	return n
}

// String is the forecast in a line.
func (f Forecast) String() string {
	line := fmt.Sprintf("about %s of computing", inWords(f.Total()))
	sep := ": "
	for _, kind := range Kinds() {
		if s := f.Seconds[kind]; s > 0 {
			line += fmt.Sprintf("%s%s %s", sep, kind, inWords(s))
			sep = ", "
		}
	}
	return fmt.Sprintf("%s; up to %.0f GiB", line, f.Bytes/(1<<30))
}

// inWords is a duration as people say it.
func inWords(seconds float64) string {
	minutes := int(seconds/60 + 0.5)
	if minutes < 60 {
		return fmt.Sprintf("%d min", minutes)
	}
	return fmt.Sprintf("%d h %02d min", minutes/60, minutes%60)
}
