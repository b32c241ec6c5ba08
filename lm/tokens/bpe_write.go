package tokens

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// writeTokenizer writes tokenizer.json and tokenizer_config.json into dir, in
// Hugging Face's layout and always in the same bytes.
func writeTokenizer(dir string, t *bpeTrainer) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var file bytes.Buffer
	file.WriteString("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [")
	for i, content := range trainedSpecials {
		separate(&file, i, "    ")
		fmt.Fprintf(&file, `{"id": %d, "content": %s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}`,
			len(t.tokens)+i, jsonString(content))
	}
	file.WriteString(`
  ],
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
  "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
  "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {`)
	for id, token := range t.tokens {
		separate(&file, id, "      ")
		fmt.Fprintf(&file, "%s: %d", jsonString(bytesToken(token)), id)
	}
	file.WriteString("\n    },\n    \"merges\": [")
	for i, merge := range t.merges {
		separate(&file, i, "      ")
		file.WriteString(jsonString(bytesToken(t.tokens[merge[0]]) + " " + bytesToken(t.tokens[merge[1]])))
	}
	file.WriteString("\n    ]\n  }\n}\n")
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), file.Bytes(), 0o644); err != nil {
		return err
	}
	tokens := make(map[string]any, len(trainedSpecials))
	for i, content := range trainedSpecials {
		tokens[fmt.Sprint(len(t.tokens)+i)] = map[string]any{"content": content, "single_word": false,
			"lstrip": false, "rstrip": false, "normalized": false, "special": true}
	}
	settings, err := marshalIndent(map[string]any{
		"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": tokens,
		"bos_token": tokenBOS, "eos_token": tokenEnd, "pad_token": tokenPad,
		"clean_up_tokenization_spaces": false, "chat_template": trainedTemplate,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), settings, 0o644)
}

func separate(file *bytes.Buffer, i int, indent string) {
	if i > 0 {
		file.WriteByte(',')
	}
	file.WriteString("\n" + indent)
}

func jsonString(s string) string {
	data, _ := marshalIndent(s) // a string always marshals
	return string(bytes.TrimSpace(data))
}

// marshalIndent is json.MarshalIndent without escapes for HTML.
func marshalIndent(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(value)
	return out.Bytes(), err
}
