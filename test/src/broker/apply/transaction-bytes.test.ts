/** Bytes about transactions that lie in logs for ever, written out by hand. */
import { expect, test } from 'vitest'
import { type Command, decodeCommand, encodeCommand } from '../../../../src/broker/apply/command.ts'
import { readBatchHeader } from '../../../../src/message/batch.ts'
import { type Delivery, readDelivery, readHalf } from '../../../../src/message/extensions.ts'
import { carriedBatch, commitBatch, halfBatch } from './half-batches.ts'

const sources = [
  { index: 7, record: 1 },
  { index: 300, record: 0 },
]

const commands: readonly (readonly [Command, string])[] = [
  [{ kind: 'roll_back', sources }, '0810 1001 1a0b 0a04 0807 1001 0a03 08ac02'],
  [{ kind: 'note_checks', intervalMs: 30_000, sources }, '0811 1001 1a0f 08b0ea01 1204 0807 1001 1203 08ac02'],
]

test.each(commands)('%j is these bytes', (command, hex) => {
  const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex')
  expect(encodeCommand(command).toString('hex')).toBe(bytes.toString('hex'))
  expect(decodeCommand(bytes)).toEqual(command)
})

const deliveries: readonly (readonly [string, Buffer, string, Delivery])[] = [
  [
    'a delivery of half messages',
    commitBatch(3, sources),
    '0802 1204 1007 1801 1203 10ac02 2803',
    { kind: 'transaction', topicId: 3, sources },
  ],
  [
    'half messages that are stored once more',
    carriedBatch(sources),
    '0806 1204 1007 1801 1203 10ac02',
    { kind: 'carried_halves', sources },
  ],
]

test.each(deliveries)('the header extension of %s is these bytes, critical', (_name, batch, hex, delivery) => {
  const header = readBatchHeader(batch)
  expect(header.extensions.map(({ id, critical, value }) => [id, critical, value.toString('hex')])).toEqual([
    [17, true, hex.replaceAll(' ', '')],
  ])
  expect(readDelivery(header)).toMatchObject(delivery)
})

test('the header extension of half messages is these bytes, critical', () => {
  const header = readBatchHeader(halfBatch({ group: 'pg' }))
  expect(header.kind).toBe(3)
  expect(header.extensions).toEqual([{ id: 16, critical: true, value: Buffer.from('0a027067', 'hex') }])
  expect(readHalf(header)).toEqual({ producerGroup: 'pg' })
})

test.each(['', '0a00', '1001', '0a', '0a0270670a027067ff'])('%j names no producer group', (hex) => {
  const extension = { id: 16, critical: true, value: Buffer.from(hex, 'hex') }
  const header = { ...readBatchHeader(halfBatch()), extensions: [extension] }
  expect(() => readHalf(header)).toThrow(expect.objectContaining({ code: 'MESSAGE_ILLEGAL' }))
})
