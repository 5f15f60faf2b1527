#!/usr/bin/env python3
"""An HTTP proxy between a client and one real server that does wrong on request.

fault_proxy.py PORT TARGET_PORT [--tls CERT KEY]     listens on 127.0.0.1:PORT, until killed

Rules are set by PUT /__rules with a JSON list, and read back, with how often each fired and what it saw, by GET /__rules. The first
rule that matches and is not used up acts. A rule:
  method, path    regular expressions (path with query), default any; header: [name, regular expression] that has to match, too
  skip, times     matches passed over first; how often it acts then (0: always; default 1)
  do              status   answer with `code`, `headers` {}, `body`, without asking the server
                  delay    ask after `ms`
                  hang     read the request, never answer
                  reset    cut the connection with RST: `at` "request" (after `byte` bytes of the body were read), "before" the answer,
                           or "answer" (after `byte` bytes of its body)
                  truncate the answer's body ends after `byte` bytes, its Content-Length stays
                  corrupt  the answer's byte `byte` is flipped; with at "request" the request's
                  length   the answer's Content-Length is changed by `by`, its body with it (filled up with 'x', or cut)
                  strip    ask the server without the request's header `name`
                  header   the answer's header `name` becomes `value`
                  replace  the answer keeps its status and headers but its body becomes `body`
                  slow     the answer's body at `rate` bytes/s
                  lose     the server does it, the connection is cut instead of the answer
"""
import argparse
import http.client
import json
import re
import socket
import ssl
import struct
import threading
import time

rules = []
lock = threading.Lock()


class Cut(Exception):
    """The connection is to be cut now."""


def pick(method, path, headers):
    with lock:
        for r in rules:
            if not re.search(r.get('method', ''), method) or not re.search(r.get('path', ''), path):
                continue
            if 'header' in r and not re.search(r['header'][1], headers.get(r['header'][0].lower(), '')):
                continue
            r['matched'] = r.get('matched', 0) + 1
            r.setdefault('seen', []).append(dict(headers, **{':method': method, ':path': path}))
            del r['seen'][:-20]
            if r['matched'] <= r.get('skip', 0) or (r.get('times', 1) and r.get('fired', 0) >= r.get('times', 1)):
                continue
            r['fired'] = r.get('fired', 0) + 1
            return dict(r)
    return {'do': None}


def read_head(f):
    """(method, path, headers) or None at the end."""
    line = f.readline(65536)
    if not line.strip():
        return None
    method, path, _ = line.decode('latin-1').split(' ', 2)
    headers, raw = {}, []
    while True:
        line = f.readline(65536)
        if line in (b'\r\n', b'\n', b''):
            break
        name, _, value = line.decode('latin-1').rstrip('\r\n').partition(':')
        raw.append((name, value.strip()))
        headers[name.lower()] = value.strip()
    return method, path, headers, raw


def cut(sock):
    """RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    raise Cut


def ask(port, method, path, raw, body):
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    c.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in raw:
        c.putheader(name, value)
    c.endheaders(body or None)
    r = c.getresponse()
    out = r.status, r.reason, [(k, v) for k, v in r.getheaders() if k.lower() not in ('transfer-encoding', 'connection')], r.read()
    c.close()
    return out


def send(sock, method, status, reason, headers, body, length=None, pace=None):
    names = {k.lower() for k, _ in headers}
    if length is None:
        length = len(body)
    if method != 'HEAD' and status not in (204, 304):
        headers = [(k, v) for k, v in headers if k.lower() != 'content-length'] + [('Content-Length', str(length))]
    if 'date' not in names:
        headers.append(('Date', time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())))
    head = f'HTTP/1.1 {status} {reason}\r\n' + ''.join(f'{k}: {v}\r\n' for k, v in headers) + '\r\n'
    sock.sendall(head.encode('latin-1'))
    if method == 'HEAD':
        return
    if not pace:
        sock.sendall(body)
        return
    for i in range(0, len(body), max(1, pace // 10)):
        sock.sendall(body[i:i + max(1, pace // 10)])
        time.sleep(0.1)


def flip(body, byte):
    if not body:
        return body
    i = min(byte, len(body) - 1)
    return body[:i] + bytes([body[i] ^ 0x40]) + body[i + 1:]


def control(sock, method, body):
    global rules
    with lock:
        if method == 'PUT':
            rules = json.loads(body)
        text = json.dumps(rules).encode()
    send(sock, method, 200, 'OK', [('Content-Type', 'application/json')], text)


def read_body(sock, f, rule, headers):
    n = int(headers.get('content-length', 0))
    if rule['do'] == 'reset' and rule.get('at') == 'request':
        f.read(min(n, rule.get('byte', 0)))
        cut(sock)
    return f.read(n) if n else b''


def act(sock, port, rule, method, path, raw, body):
    """Answers one request as the rule wants it."""
    do = rule['do']
    if do == 'hang':
        time.sleep(rule.get('ms', 600000) / 1000)
        cut(sock)
    if do == 'status':
        send(sock, method, rule['code'], 'Fault', list(rule.get('headers', {}).items()), rule.get('body', '').encode())
        return
    if do == 'delay':
        time.sleep(rule['ms'] / 1000)
    if do == 'reset' and rule.get('at') == 'before':
        cut(sock)
    if do == 'corrupt' and rule.get('at') == 'request':
        body = flip(body, rule.get('byte', 0))
    if do == 'strip':
        raw = [h for h in raw if h[0].lower() != rule['name'].lower()]
    status, reason, headers, answer = ask(port, method, path, raw, body)
    if do == 'lose':
        cut(sock)
    if do == 'corrupt' and rule.get('at') != 'request':
        answer = flip(answer, rule.get('byte', 0))
    if do == 'replace':
        answer = rule['body'].encode()
    if do == 'length':
        answer = (answer + b'x' * max(0, rule['by']))[:max(0, len(answer) + rule['by'])]
    if do == 'header':
        headers = [(k, v) for k, v in headers if k.lower() != rule['name'].lower()] + [(rule['name'], rule['value'])]
    if do in ('truncate', 'reset'):
        send(sock, method, status, reason, headers, answer[:rule.get('byte', 0)], length=len(answer))
        if do == 'reset':
            time.sleep(0.05)
            cut(sock)
        raise Cut
    send(sock, method, status, reason, headers, answer, pace=rule.get('rate') if do == 'slow' else None)


def serve(sock, port):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    f = sock.makefile('rb')
    try:
        while True:
            head = read_head(f)
            if not head:
                return
            method, path, headers, raw = head
            if path == '/__rules':
                control(sock, method, f.read(int(headers.get('content-length', 0))))
                continue
            rule = pick(method, path, headers)
            body = read_body(sock, f, rule, headers)
            act(sock, port, rule, method, path, raw, body)
    except (Cut, OSError, ValueError):
        pass
    finally:
        f.close()
        sock.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument('port', type=int)
    p.add_argument('target', type=int)
    p.add_argument('--tls', nargs=2)
    a = p.parse_args()
    tls = None
    if a.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*a.tls)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('127.0.0.1', a.port))
    s.listen(128)
    while True:
        c, _ = s.accept()

        def run(c=c):
            try:
                c2 = tls.wrap_socket(c, server_side=True) if tls else c
            except (OSError, ssl.SSLError):
                c.close()
                return
            serve(c2, a.target)
        threading.Thread(target=run, daemon=True).start()


main()
