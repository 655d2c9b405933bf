// SPDX-License-Identifier: Apache-2.0
// Jobs travel as base64 inside a signed envelope, where a proxy does not look. So they are opened here and held against JobPayload.

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
