// SPDX-License-Identifier: Apache-2.0
// What the contract test stands on: children that are ended by pid, a recorder in front of prism, and TAP.

import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';

const children = new Set();
let tests = 0, failures = 0;

export function ok(good, name, ...why) {
    console.log(`${good ? 'ok' : 'not ok'} ${++tests} - ${name}`);
    if (!good) {
        failures++;
        for (const line of why.flat()) console.log(`# ${typeof line === 'string' ? line : JSON.stringify(line)}`);
    }
    return good;
}

export function finish() {
    console.log(`1..${tests}`);
    return failures ? 1 : 0;
}

export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export async function until(seconds, what, question) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const answer = await question();
        if (answer) return answer;
        if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
        await sleep(0.1);
    }
}

export function start(name, dir, program, args, env = {}) {
    const log = createWriteStream(path.join(dir, `${name}.log`));
    const options = { env: { PATH: process.env.PATH, HOME: dir, LANG: 'C.UTF-8', ...env }, stdio: ['ignore', 'pipe', 'pipe'] };
    const child = spawn(program, args, options);
    child.text = '';
    for (const stream of [child.stdout, child.stderr])
        stream.on('data', (bytes) => { log.write(bytes); if (child.text.length < 65536) child.text += bytes; });
    child.over = new Promise((done) => child.on('close', (code, signal) => { children.delete(child); done(code ?? signal); }));
    child.on('error', (error) => console.log(`# ${name}: ${error.message}`));
    children.add(child);
    return child;
}

export async function stop(child, signal = 'SIGTERM') {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    const killer = setTimeout(() => child.kill('SIGKILL'), 25000);
    const code = await child.over;
    clearTimeout(killer);
    return code;
}

export const stopAll = () => Promise.all([...children].map((child) => stop(child)));

export function freePort() {
    return new Promise((done) => {
        const server = net.createServer().listen(0, '127.0.0.1', () => {
            const { port } = server.address();
            server.close(() => done(port));
        });
    });
}

export const listens = (port) => new Promise((done) => {
    const socket = net.connect(port, '127.0.0.1').on('connect', () => { socket.destroy(); done(true); }).on('error', () => done(false));
});

// Prism without --errors lets everything through and names each violation in the answer's sl-violations header: so one run shows them all.
export async function startPrism(name, dir, document, upstreamPort) {
    const port = await freePort();
    const program = path.join(import.meta.dirname, 'node_modules/.bin/prism');
    const upstream = `http://127.0.0.1:${upstreamPort}`;
    const child = start(name, dir, program, ['proxy', document, upstream, '--port', String(port), '--host', '127.0.0.1']);
    await until(60, `${name} listens`, () => {
        if (child.exitCode !== null) throw new Error(`${name} ended: ${child.text}`);
        return listens(port);
    });
    return { child, port };
}

// Stands before prism, keeps every exchange whole, and takes prism's own header out of the answers.
export function startRecorder(prismPort) {
    const exchanges = [];
    const server = http.createServer((request, answer) => {
        const sent = [];
        request.on('data', (part) => sent.push(part));
        request.on('end', () => {
            const body = Buffer.concat(sent);
            const options = { host: '127.0.0.1', port: prismPort, method: request.method, path: request.url, headers: request.headers };
            const onward = http.request(options, (back) => {
                const got = [];
                back.on('data', (part) => got.push(part));
                back.on('end', () => {
                    const { 'sl-violations': violations, ...headers } = back.headers;
                    const reply = Buffer.concat(got);
                    exchanges.push({
                        method: request.method, url: request.url, headers: request.headers, body: body.toString(),
                        status: back.statusCode, reply: reply.toString(), violations: violations ? readViolations(violations) : [],
                    });
                    answer.writeHead(back.statusCode, headers);
                    answer.end(reply);
                });
            });
            onward.on('error', () => answer.destroy());
            answer.on('close', () => { if (!answer.writableFinished) onward.destroy(); });
            onward.end(body);
        });
    });
    return new Promise((done) => server.listen(0, '127.0.0.1', () => done({ server, exchanges, port: server.address().port })));
}

export function readViolations(header) {
    try {
        return JSON.parse(header).map((v) => `${v.location.join('.')}: ${v.message}`);
    } catch {
        return [header];
    }
}
