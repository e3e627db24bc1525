package mcphttp

import "encoding/binary"

// What is sealed in session ids, request states and ids of tasks is a sequence of numbers,
// and of texts that follow their length. Each has a first byte that says which form it has.

// appendPart appends a text.
func appendPart(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// cutUvarint cuts off a number.
func cutUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// cutPart cuts off a text.
func cutPart(b []byte) (part, rest []byte, ok bool) {
	size, b, ok := cutUvarint(b)
	if !ok || size > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:size:size], b[size:], true
}

// cutTexts cuts off one text after the other.
func cutTexts(b []byte, texts ...*string) (rest []byte, ok bool) {
	for _, text := range texts {
		var part []byte
		if part, b, ok = cutPart(b); !ok {
			return nil, false
		}
		*text = string(part)
	}
	return b, true
}
