package stdio

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// pieces is a stream that comes in pieces of random length.
type pieces struct {
	rest []byte
	rnd  *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(len(p.rest), 1+p.rnd.IntN(200<<10))])
	p.rest = p.rest[n:]
	return n, nil
}

// Lines come out as they went in, whatever their lengths and however they are cut into reads.
func TestLinesOfAllLengths(t *testing.T) {
	const maxLine = 300 << 10
	lengths := []int{0, 1, 100, readSize - 1, readSize, readSize + 1, 2*readSize - 1, 2 * readSize, 2*readSize + 1, maxLine - 1, maxLine, maxLine + 1, maxLine + 2, 2 * maxLine}
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var want [][]byte
		var stream []byte
		for i := range 40 {
			line := bytes.Repeat([]byte{byte('a' + i%26)}, lengths[rnd.IntN(len(lengths))])
			want = append(want, line)
			stream = append(append(stream, line...), '\n')
		}
		stream = stream[:len(stream)-rnd.IntN(2)] // the last one may lack its end
		budget := NewBudget(1 << 30)
		r := &lineReader{src: &pieces{stream, rnd}, maxLine: maxLine, budget: budget}
		for i, line := range want {
			got, err := r.next()
			if errors.Is(err, io.EOF) && i == len(want)-1 && len(line) == 0 {
				break // an empty line without its end is not returned
			}
			if err != nil {
				t.Fatalf("seed %d, line %d: %v", seed, i, err)
			}
			if tooLarge := len(line) > maxLine; tooLarge != errors.Is(got.err, ErrReplyTooLarge) {
				t.Fatalf("seed %d: a line of %d bytes came with %v", seed, len(line), got.err)
			} else if !tooLarge && !bytes.Equal(got.data, line) {
				t.Fatalf("seed %d: a line of %d bytes came as one of %d", seed, len(line), len(got.data))
			}
			got.hold.release()
		}
		if _, err := r.next(); !errors.Is(err, io.EOF) {
			t.Errorf("seed %d: behind the last line came %v, want %v", seed, err, io.EOF)
		}
		if used := budget.Used(); used != 0 {
			t.Errorf("seed %d: %d bytes of the budget are still reserved", seed, used)
		}
	}
}

// A large line gets the room that the last one took as soon as it outgrows the least room.
func TestLargeLineTakesUsualRoom(t *testing.T) {
	const size = 1 << 20
	stream := bytes.Repeat(append(bytes.Repeat([]byte{'x'}, size), '\n'), 2)
	r := &lineReader{src: bytes.NewReader(stream), maxLine: 2 * size, budget: NewBudget(4 * size)}
	for i := range 2 {
		l, err := r.next()
		if err != nil || len(l.data) != size {
			t.Fatalf("got %d bytes and %v", len(l.data), err)
		}
		if i == 1 && l.hold.bytes != size+1 {
			t.Errorf("the second line of %d bytes took room for %d", size, l.hold.bytes)
		}
		l.hold.release()
	}
}
