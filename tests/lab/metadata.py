# SPDX-License-Identifier: Apache-2.0
"""What plays EC2's metadata service and Secrets Manager: IMDSv2 with its tokens and its hop limit, and GetSecretValue, whose signature (AWS Signature
Version 4) is verified. Each instance is known by the address that it asks from."""

import datetime
import hashlib
import hmac
import http.server
import json
import secrets
import socket
import ssl
import threading

REGION = "eu-central-1"


class Instance:
    """What the cloud knows of one. user_data: text or None; tags: {} where instance metadata may not tell them."""

    def __init__(self, tags=None, user_data=None, role="tenant-host"):
        self.id, self.image = f"i-{secrets.token_hex(8)}", f"ami-{secrets.token_hex(8)}"
        self.tags, self.user_data, self.role = tags or {}, user_data, role
        self.key, self.secret, self.session = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_hex(20), secrets.token_hex(32)
        self.tokens = set()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        pass                                                # a client that left


class Metadata:
    """instances: address → Instance. hop_limit: what a token's answer may still pass. v1: whether it answers without a token, too."""

    def __init__(self, address="127.0.0.1", port=0):
        outer = self
        self.instances, self.hop_limit, self.v1, self.asked = {}, 1, False, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def say(self, status, text=""):
                data = text if isinstance(text, bytes) else text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def instance(self):
                return outer.instances.get(self.client_address[0])

            def do_PUT(self):
                found, ttl = self.instance(), self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                if self.path != "/latest/api/token" or not ttl.isdigit() or "X-Forwarded-For" in self.headers or not found:
                    return self.say(400 if found else 404)
                self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, outer.hop_limit)   # as AWS has it: of the answer with the token
                found.tokens.add(token := secrets.token_urlsafe(40))
                return self.say(200, token)

            def do_GET(self):
                found, token = self.instance(), self.headers.get("X-aws-ec2-metadata-token")
                outer.asked.append(self.path)
                if not found or (token not in found.tokens and not (outer.v1 and token is None)):
                    return self.say(401)
                text = outer.answer(found, self.path)
                return self.say(404 if text is None else 200, text or "")

        self.server = Server((address, port), Handler)
        self.url = f"http://{address}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def answer(i, path):
        role = "/latest/meta-data/iam/security-credentials/"
        fixed = {
            "/latest/dynamic/instance-identity/document": json.dumps({
                "accountId": "123456789012", "architecture": "x86_64", "imageId": i.image, "instanceId": i.id, "instanceType": "t3.small", "region": REGION}),
            "/latest/meta-data/": "ami-id\niam/\n", "/latest/user-data": i.user_data, role: i.role,
            f"{role}{i.role}": json.dumps({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": i.key, "SecretAccessKey": i.secret, "Token": i.session,
                                           "Expiration": "2099-01-01T00:00:00Z"}) if i.role else None,
        }
        return fixed.get(path, i.tags.get(path.removeprefix("/latest/meta-data/tags/instance/")))

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def sign(instance, headers, signed, body, date):
    """Signature Version 4 of a POST / to Secrets Manager, as its documentation makes it."""
    canonical = "\n".join(["POST", "/", "", *(f"{name}:{' '.join(headers[name].split())}" for name in signed), "", ";".join(signed), hashlib.sha256(body).hexdigest()])
    scope = f"{date[:8]}/{REGION}/secretsmanager/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{instance.secret}".encode()
    for word in (date[:8], REGION, "secretsmanager", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class SecretsManager:
    """secrets: name → text. Over TLS; only who signs with a known role's credentials is answered."""

    def __init__(self, metadata, certificate, address="127.0.0.1", port=0):
        outer = self
        self.metadata, self.secrets = metadata, {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                status, answer = outer.answer({name.lower(): value for name, value in self.headers.items()}, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = Server((address, port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://{address}:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, headers, body):
        words = headers.get("authorization", "")
        if not words.startswith("AWS4-HMAC-SHA256 "):
            return 400, {"__type": "MissingAuthenticationTokenException"}
        part = dict(word.strip().split("=", 1) for word in words.removeprefix("AWS4-HMAC-SHA256 ").split(","))
        signed, date = part["SignedHeaders"].split(";"), headers.get("x-amz-date", "")
        instance = next((i for i in self.metadata.instances.values() if i.key == part["Credential"].split("/")[0]), None)
        skew = abs((datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ") - datetime.datetime.utcnow()).total_seconds())
        if not instance or not {"host", "x-amz-date", "x-amz-security-token"} <= set(signed) or headers["x-amz-security-token"] != instance.session or skew > 300:
            return 400, {"__type": "UnrecognizedClientException"}
        if not hmac.compare_digest(sign(instance, headers, signed, body, date), part["Signature"]):
            return 400, {"__type": "InvalidSignatureException", "message": "The request signature we calculated does not match"}
        if headers.get("x-amz-target") != "secretsmanager.GetSecretValue" or headers.get("content-type") != "application/x-amz-json-1.1":
            return 400, {"__type": "UnknownOperationException"}
        name = json.loads(body)["SecretId"]
        if name not in self.secrets:
            return 400, {"__type": "ResourceNotFoundException", "Message": "Secrets Manager can't find the specified secret."}
        return 200, {"ARN": f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{name}-AbCdEf", "Name": name, "SecretString": self.secrets[name]}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def bundle(plane):
    """The tenant's bootstrap secret as the platform writes it."""
    return json.dumps({"db_password": "d" * 20, "admin_token": plane.admin_token, "secrets_encryption_key": "k" * 44, "tunnel_token": "t" * 40, "ghcr_token": "",
                       "cp_admin_api_token": "never-ours", "shared_secret": plane.provision_secret, "display_session_signing_secret": "s" * 32})
