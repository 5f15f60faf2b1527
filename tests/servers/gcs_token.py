#!/usr/bin/env python3
"""A token server as Google's, and in front of a fake-gcs-server the door that asks for its tokens.

gcs_token.py PORT UPSTREAM_PORT MODULUS_HEX [--lifetime S] [--skew S]
POST /token checks the assertion of a service account (RFC 7523): RS256 with that modulus and e = 65537, iss, scope, aud, iat, exp.
/computeMetadata/... gives tokens to who sends Metadata-Flavor: Google. Anything else needs a bearer token that is alive (else
401) and goes to the upstream server. GET /__stats; POST /__revoke makes all tokens dead. --skew: its clock, ahead of the machine's."""
import argparse
import base64
import hashlib
import http.client
import http.server
import json
import secrets
import time
import urllib.parse

EMAIL = 'tester@project.iam.gserviceaccount.com'
SCOPE = 'https://www.googleapis.com/auth/devstorage.read_write'
PREFIX = bytes.fromhex('3031300d060960864801650304020105000420')

stats = {'issued': 0, 'refused': 0, 'unauthorized': 0, 'why': ''}
tokens = {}


def unb64(s):
    return base64.urlsafe_b64decode(s + '=' * (-len(s) % 4))


def verify(jwt, modulus, aud, now):
    """None, or why it is refused."""
    parts = jwt.split('.')
    if len(parts) != 3 or '=' in jwt:
        return 'not a JWT'
    if json.loads(unb64(parts[0])).get('alg') != 'RS256':
        return 'alg'
    k = (modulus.bit_length() + 7) // 8
    signature = unb64(parts[2])
    digest = hashlib.sha256(f'{parts[0]}.{parts[1]}'.encode()).digest()
    padded = b'\0\1' + b'\xff' * (k - 3 - len(PREFIX) - 32) + b'\0' + PREFIX + digest
    if len(signature) != k or pow(int.from_bytes(signature, 'big'), 65537, modulus).to_bytes(k, 'big') != padded:
        return 'Invalid JWT Signature.'
    c = json.loads(unb64(parts[1]))
    if c.get('iss') != EMAIL or c.get('scope') != SCOPE or c.get('aud') != aud:
        return 'iss, scope or aud'
    if not c['iat'] <= now + 60 or not now < c['exp'] or c['exp'] - c['iat'] > 3600 or now - c['iat'] > 3660:
        return 'Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.'
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def date_time_string(self, timestamp=None):
        return super().date_time_string(time.time() + args.skew)

    def log_message(self, *_):
        pass

    def answer(self, status, obj, headers=()):
        body = json.dumps(obj).encode()
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def issue(self, headers=()):
        token = 'ya29.' + secrets.token_urlsafe(24)
        tokens[token] = time.time() + args.lifetime
        stats['issued'] += 1
        self.answer(200, {'access_token': token, 'expires_in': args.lifetime, 'token_type': 'Bearer'}, headers)

    def token(self, body):
        form = dict(urllib.parse.parse_qsl(body.decode()))
        if form.get('grant_type') == 'refresh_token':
            why = None if (form.get('refresh_token'), form.get('client_secret')) == ('rt/1', 'cs+1') else 'refresh token'
        elif form.get('grant_type') == 'urn:ietf:params:oauth:grant-type:jwt-bearer':
            aud = f'http://127.0.0.1:{args.port}/token'
            why = verify(form.get('assertion', ''), args.modulus, aud, time.time() + args.skew)
        else:
            why = 'grant_type'
        if why:
            stats['refused'] += 1
            stats['why'] = why
            self.answer(400, {'error': 'invalid_grant', 'error_description': why})
        else:
            self.issue()

    def forward(self, body):
        c = http.client.HTTPConnection('127.0.0.1', args.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ('authorization', 'host')}
        c.request(self.command, self.path, body or None, dict(headers, Host=f'127.0.0.1:{args.upstream}'))
        r = c.getresponse()
        data = r.read()
        self.send_response(r.status)
        for k, v in r.getheaders():
            if k.lower() not in ('transfer-encoding', 'content-length', 'connection', 'date', 'server'):
                self.send_header(k, v)
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        c.close()

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        if self.path == '/__stats':
            return self.answer(200, stats)
        if self.path == '/__revoke':
            tokens.clear()
            return self.answer(200, {})
        if self.path == '/token':
            return self.token(body)
        if self.path == '/computeMetadata/v1/instance/service-accounts/default/token':
            if self.headers.get('Metadata-Flavor') != 'Google':
                return self.answer(403, {})
            return self.issue([('Metadata-Flavor', 'Google')])
        bearer = self.headers.get('Authorization', '').removeprefix('Bearer ')
        if tokens.get(bearer, 0) < time.time():
            stats['unauthorized'] += 1
            return self.answer(401, {'error': {'code': 401, 'message': 'Invalid Credentials',
                                               'errors': [{'reason': 'authError'}]}})
        return self.forward(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any


p = argparse.ArgumentParser()
p.add_argument('port', type=int)
p.add_argument('upstream', type=int)
p.add_argument('modulus', type=lambda s: int(s, 16))
p.add_argument('--lifetime', type=int, default=3600)
p.add_argument('--skew', type=int, default=0)
args = p.parse_args()
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(('127.0.0.1', args.port), Handler).serve_forever()
