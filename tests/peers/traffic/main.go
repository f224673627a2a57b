// Traffic is a peer that never stops: every kind of packet to each of its destinations, ten times a
// second, whatever comes back. It answers each line on stdin with one JSON line on stdout: for each
// kind the packets sent and the answers had so far, and the longest silence, in milliseconds, that
// an answer to the 10 Hz UDP probe has ended since the last line.
//
//	traffic 203.0.113.80 2001:db8:113::80
//
// TCP to port 80 (a new connection each time, and one that stays), UDP to port 7, QUIC-like (UDP of
// 1200 bytes to 443), fragments (UDP of 4000 bytes to 7) and ICMP echo. It ends with its stdin.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const pause = 100 * time.Millisecond

// A connection that gets no answer gives way to the next this soon.
const patience = time.Second

type tally struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	// Only of the kind "udp": what a person would call the outage.
	SilenceMs int64 `json:"silence_ms"`

	last time.Time
}

var (
	lock    sync.Mutex
	tallies = map[string]*tally{}
)

func main() {
	for _, to := range os.Args[1:] {
		family := "v4"
		if net.ParseIP(to) == nil {
			log.Fatalf("%q is no IP address", to)
		}
		if net.ParseIP(to).To4() == nil {
			family = "v6"
		}
		go datagrams(family+" udp", to, "7", 64)
		go datagrams(family+" quic", to, "443", 1200)
		go datagrams(family+" fragments", to, "7", 4000)
		go connections(family+" tcp", to)
		go stream(family+" stream", to)
		go echoes(family+" icmp", to)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		lock.Lock()
		text, err := json.Marshal(tallies)
		for _, each := range tallies {
			each.SilenceMs = 0
		}
		lock.Unlock()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(text))
	}
}

func sent(kind string) { count(kind, func(t *tally) { t.Sent++ }) }

func answered(kind string) {
	count(kind, func(t *tally) {
		t.Answered++
		now := time.Now()
		if silence := now.Sub(t.last).Milliseconds(); !t.last.IsZero() && silence > t.SilenceMs {
			t.SilenceMs = silence
		}
		t.last = now
	})
}

func count(kind string, change func(*tally)) {
	lock.Lock()
	defer lock.Unlock()
	if tallies[kind] == nil {
		tallies[kind] = &tally{}
	}
	change(tallies[kind])
}

// datagrams keeps one socket for as long as it is answered, as a call does: the way of an old flow is
// judged too. The peer's own kernel may keep a connected socket on the way that it had before the exit
// node, so one that is not answered for long gives way to the next.
func datagrams(kind, to, port string, size int) {
	for ; ; time.Sleep(pause) {
		socket, err := net.Dial("udp", net.JoinHostPort(to, port))
		if err != nil {
			continue
		}
		var last atomic.Int64
		last.Store(time.Now().UnixNano())
		go func() {
			buffer := make([]byte, 65536)
			for {
				_, err := socket.Read(buffer)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					// It came by ICMP: the next read waits for the next packet.
					time.Sleep(time.Millisecond)
					continue
				}
				last.Store(time.Now().UnixNano())
				answered(kind)
			}
		}()
		for datagram := make([]byte, size); time.Since(time.Unix(0, last.Load())) < 5*patience; time.Sleep(pause) {
			if _, err := socket.Write(datagram); err == nil {
				sent(kind)
			}
		}
		socket.Close()
	}
}

func connections(kind, to string) {
	for ; ; time.Sleep(pause) {
		go func() {
			sent(kind)
			connection, err := net.DialTimeout("tcp", net.JoinHostPort(to, "80"), patience)
			if err == nil {
				answered(kind)
				connection.Close()
			}
		}()
	}
}

// stream is one connection that is used for as long as it lasts.
func stream(kind, to string) {
	for ; ; time.Sleep(pause) {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(to, "80"), patience)
		if err != nil {
			continue
		}
		lines := bufio.NewReader(connection)
		for {
			connection.SetDeadline(time.Now().Add(5 * patience))
			sent(kind)
			if _, err := io.WriteString(connection, "GET /bytes/2 HTTP/1.1\r\nHost: stream\r\n\r\n"); err != nil {
				break
			}
			if _, err := lines.ReadString('\n'); err != nil {
				break
			}
			lines.Discard(lines.Buffered())
			answered(kind)
			time.Sleep(pause)
		}
		connection.Close()
	}
}

func echoes(kind, to string) {
	network, local, message, protocol := "ip4:icmp", "0.0.0.0", icmp.Message{Type: ipv4.ICMPTypeEcho}, 1
	if net.ParseIP(to).To4() == nil {
		network, local, message, protocol = "ip6:ipv6-icmp", "::", icmp.Message{Type: ipv6.ICMPTypeEchoRequest}, 58
	}
	socket, err := icmp.ListenPacket(network, local)
	if err != nil {
		log.Fatal(err)
	}
	destination := &net.IPAddr{IP: net.ParseIP(to)}
	go func() {
		buffer := make([]byte, 1500)
		for {
			read, from, err := socket.ReadFrom(buffer)
			if err != nil {
				time.Sleep(time.Millisecond)
				continue
			}
			reply, err := icmp.ParseMessage(protocol, buffer[:read])
			isReply := err == nil && (reply.Type == ipv4.ICMPTypeEchoReply || reply.Type == ipv6.ICMPTypeEchoReply)
			if isReply && from.String() == destination.String() {
				answered(kind)
			}
		}
	}()
	for sequence := 0; ; sequence++ {
		message.Body = &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: sequence & 0xffff, Data: make([]byte, 56)}
		bytes, err := message.Marshal(nil)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := socket.WriteTo(bytes, destination); err == nil {
			sent(kind)
		}
		time.Sleep(pause)
	}
}
