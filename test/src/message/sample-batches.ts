/** Batches that the tests of the format share. */
import type { BatchFields } from '../../../src/message/batch.ts'
import { batchKinds, codecs, type RecordFields } from '../../../src/message/types.ts'

export function sampleRecord(changes: Partial<RecordFields> = {}): RecordFields {
  return {
    bornDelta: 0,
    messageId: '0100112233445566778899AABBCCDDEEFF',
    tag: '',
    keys: [],
    messageGroup: '',
    deliveryTime: 0,
    attempt: 0,
    origin: null,
    flags: 0,
    traceParent: '',
    properties: {},
    body: Buffer.from('hello'),
    ...changes,
  }
}

export function sampleBatch(changes: Partial<BatchFields> = {}): BatchFields {
  return {
    codec: codecs.none,
    kind: batchKinds.normal,
    firstOfProducer: false,
    producerId: Buffer.alloc(16),
    producerEpoch: 0,
    baseSequence: 0,
    baseBornTime: 1_700_000_000_000,
    topic: 'orders',
    queue: 0,
    bornHost: '',
    extensions: [],
    records: [sampleRecord()],
    ...changes,
  }
}

/** Every field set, to values that show their byte order and sign. */
export const completeRecord: RecordFields = {
  bornDelta: -2,
  messageId: '01A1B2C3D4E5F60708090A0B0C0D0E0F10',
  tag: 'größer',
  keys: ['order-1', 'ключ', '🔑'],
  messageGroup: 'customer-7',
  deliveryTime: 2 ** 53 - 1,
  attempt: 3,
  origin: { topic: '%RETRY%billing', queue: 0x01020304, offset: 2 ** 40 + 5 },
  flags: 0xdeadbeef,
  traceParent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  properties: { region: 'eu', ['__proto__']: 'polluted?', empty: '', '\u{1f600}': 'after', '\ufb01': 'before' },
  body: Buffer.from([0, 1, 2, 0xff]),
}

export const completeBatch: BatchFields = {
  codec: codecs.none,
  kind: batchKinds.ordered,
  firstOfProducer: true,
  producerId: Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'),
  producerEpoch: 0xfffffffe,
  baseSequence: 2 ** 53 - 10,
  baseBornTime: 1_700_000_000_000,
  topic: 'orders',
  queue: 7,
  bornHost: '10.0.0.1:41234',
  extensions: [
    { id: 1, critical: false, value: Buffer.from([1, 2, 3]) },
    { id: 0x7fff, critical: false, value: Buffer.alloc(0) },
  ],
  records: [completeRecord, sampleRecord({ bornDelta: 15, tag: 'paid', body: Buffer.from('second') })],
}
