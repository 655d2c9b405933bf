// SPDX-License-Identifier: Apache-2.0
// Jobs travel as base64 inside a signed envelope, where a proxy does not look. So they are opened here and held against JobPayload.

import { createPrivateKey, createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';

import Ajv from 'ajv/dist/2020.js';

export function payloadChecker(document) {
    const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
    ajv.addSchema(JSON.parse(readFileSync(document)), 'agent');
    const validate = ajv.compile({ $ref: 'agent#/components/schemas/JobPayload' });
    const words = (e) => `${e.instancePath || '/'} ${e.message} ${JSON.stringify(e.params)}`;
    return (payload) => (validate(payload) ? [] : validate.errors.map(words));
}

export const open = (delivery) => JSON.parse(Buffer.from(delivery.envelope.payload, 'base64'));

// The public key of a signer's seed: PKCS #8 has a fixed head before the 32 bytes.
export const signerOf = (seed) => createPublicKey(createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), format: 'der', type: 'pkcs8',
}));

export function verifies(envelope, key) {
    const body = Buffer.from(envelope.payload, 'base64'), type = envelope.payloadType;
    const text = Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${body.length} `), body]);
    return envelope.signatures.some((s) => verify(null, text, key, Buffer.from(s.sig, 'base64')));
}
