package results

// Files of a corpus artifact. The three parts are in ESConv's own layout.
const (
	FileTrain = "train.json"
	FileValid = "valid.json"
	FileTest  = "test.json"
	FileStats = "statistics.json"
)

// Files of a base artifact, in Hugging Face's layout; an imported one may have
// its weights in several files.
const (
	FileConfig          = "config.json"
	FileWeights         = "model.safetensors"
	FileTokenizer       = "tokenizer.json"
	FileTokenizerConfig = "tokenizer_config.json"
	FileQuantization    = "quantization.json" // of a GGUF file alone
)

// Quantization says in which types a GGUF file kept the weights that a base
// artifact has in float32.
type Quantization struct {
	File    string         `json:"file"`
	Tensors map[string]int `json:"tensors"` // by type
}

// Files of an adapter artifact, in PEFT's layout.
const (
	FileAdapterConfig  = "adapter_config.json"
	FileAdapterWeights = "adapter_model.safetensors"
)

// Files of whatever was trained: rows of Step, and a Summary.
const (
	FileMetrics = "metrics.jsonl"
	FileSummary = "summary.json"
)

// Files of a mine artifact: rows of MinedSample, the pairs made of them as
// esc.WritePairs writes them, and a Mined.
const (
	FileSamples = "samples.jsonl"
	FilePairs   = "pairs.jsonl"
	FileMined   = "mined.json"
)

// FileReference is a reference artifact's, one row a mined pair: [chosen,
// rejected], the sums of the answers' log-probabilities under the SFT model;
// null for a pair that is too long to train on.
const FileReference = "reference.jsonl"

// FilePredictions is a generate artifact's: rows of Prediction, one a test
// turn, in the layout that `esclab score` reads.
const FilePredictions = "predictions.jsonl"

// Files of a strategies artifact: rows of StrategyScores, one a test turn, and
// StrategyNames.
const (
	FileStrategyScores = "strategies.jsonl"
	FileStrategyNames  = "strategies.json"
)

// Files of the evaluation artifacts: of score a metrics.AutomaticReport, of
// bias a metrics.StrategyReport, of judge rows of Judged and a Verdict.
const (
	FileScores  = "scores.json"
	FileBias    = "bias.json"
	FileJudged  = "judged.jsonl"
	FileVerdict = "judge.json"
)

// Files of a prefer artifact: rows of Compared and a Preference.
const (
	FileCompared   = "compared.jsonl"
	FilePreference = "preference.json"
)

// Files of a quality artifact: rows of ScoredPair and a Quality.
const (
	FileScoredPairs = "quality.jsonl"
	FileQuality     = "quality.json"
)

// FileReport is the one of a report artifact's files that report.Read reads; the
// others are the same report for people.
const (
	FileReport     = "report.json"
	FileReportHTML = "report.html"
)

// Files of a sweep's run with its table.
const (
	FileSweepMarkdown = "table.md"
	FileSweepCSV      = "table.csv"
	FileSweepJSON     = "table.json"
)
