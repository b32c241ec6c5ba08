// Package tokens turns text into token ids and back: byte-level BPE tokenizers in Hugging Face's files, their chat
// templates, and the training of a small tokenizer of our own. It knows no model.
//
//	tokenizer, err := tokens.Load("base/")
//	ids := tokenizer.EncodeText(text)                           // never a special token; Encode reads their names
//	text = tokenizer.DecodeText(ids)
//	ids, err = tokenizer.ChatPrompt(messages, "[Question]")     // a chat, and the beginning of its answer
//	ids, lossFrom, err := tokenizer.ChatTokens(messages, "[Question]", "How are you?")
//	err = tokenizer.Check(config.VocabSize, config.EOSTokenIDs) // does it fit a model?
//
//	tokenizer, err = tokens.TrainBPE(ctx, texts, "base/", tokens.BPEOptions{VocabSize: 4096})
package tokens
