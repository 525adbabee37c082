package wire_test

import (
	"testing"

	"stateproxy/wire"
)

func BenchmarkParseRequest(b *testing.B) {
	for _, bb := range []struct{ name, head string }{{"get", realGet}, {"put-head", realPut}} {
		b.Run(bb.name, func(b *testing.B) {
			head := []byte(bb.head)
			b.SetBytes(int64(len(head)))
			b.ReportAllocs()
			var req wire.Request
			for b.Loop() {
				if _, err := wire.ParseRequest(head, &req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseResponse(b *testing.B) {
	head := []byte(realAnswer)
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	var resp wire.Response
	for b.Loop() {
		if _, err := wire.ParseResponse(head, &resp); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseTarget(b *testing.B) {
	target := []byte(realTarget)
	room := make([]byte, 0, len(target))
	b.SetBytes(int64(len(target)))
	b.ReportAllocs()
	for b.Loop() {
		if key := wire.ParseTarget(room, target); key.Digest == nil {
			b.Fatal("no digest found")
		}
	}
}

func BenchmarkReadRequest(b *testing.B) {
	r := wire.NewReader(repeat(realGet), 512, 512)
	b.SetBytes(int64(len(realGet)))
	b.ReportAllocs()
	var req wire.Request
	for b.Loop() {
		if err := r.ReadRequest(&req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	var resp wire.Response
	if _, err := wire.ParseResponse([]byte(realAnswer), &resp); err != nil {
		b.Fatal(err)
	}
	room := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		room = wire.AppendResponse(room[:0], &resp)
	}
	b.SetBytes(int64(len(room)))
}
