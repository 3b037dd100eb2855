// Measurements as OHIF's tools leave them, on a synthetic radiograph of 48 x 64 pixels of 0.5 mm, written as a report:
// node cornerstone.mjs cornerstone.dcm
import { writeFileSync } from 'node:fs';
import dcmjs from 'dcmjs';
import { metaData } from '@cornerstonejs/core';
import { adaptersSR } from '@cornerstonejs/adapters';

const { MeasurementReport } = adaptersSR.Cornerstone3D;
const imageId = 'synthetic:1';
const spacing = 0.5;
const instance = {
  SOPClassUID: '1.2.840.10008.5.1.4.1.1.1', SOPInstanceUID: '2.25.153',
  StudyInstanceUID: '2.25.151', SeriesInstanceUID: '2.25.152', Modality: 'CR',
  PatientName: 'Test^Chest', PatientID: 'TEST-1', PatientBirthDate: '19700101', PatientSex: 'O',
  StudyDate: '20250102', StudyTime: '101112', AccessionNumber: 'ACC-1', StudyID: '1',
};
const modules = {
  instance,
  sopCommonModule: { sopClassUID: instance.SOPClassUID, sopInstanceUID: instance.SOPInstanceUID },
  generalSeriesModule: { modality: 'CR', seriesInstanceUID: '2.25.152', studyInstanceUID: '2.25.151' },
  imagePlaneModule: {
    rowCosines: [1, 0, 0], columnCosines: [0, 1, 0], imagePositionPatient: [spacing / 2, spacing / 2, 0],
    rowPixelSpacing: spacing, columnPixelSpacing: spacing, frameOfReferenceUID: '2.25.154',
  },
};
const provider = { get: (type, id) => (id === imageId ? modules[type] : undefined) };
metaData.addProvider(provider.get);

const code = (CodeValue, CodingSchemeDesignator, CodeMeaning) => ({ CodeValue, CodingSchemeDesignator, CodeMeaning });
const at = (...pixels) => pixels.map(([x, y]) => [x * spacing, y * spacing, 0]);
const annotation = (data, stats, rest = {}) => ({
  data: { cachedStats: { [`imageId:${imageId}`]: stats }, ...data },
  metadata: { referencedImageId: imageId, FrameOfReferenceUID: '2.25.154' }, findingSites: [], ...rest,
});
const handles = (...pixels) => ({ points: at(...pixels) });
const lung = [code('39607008', 'SCT', 'Lung structure')];
const nodule = code('27925004', 'SCT', 'Nodule');
const tool = (...data) => ({ data });
const state = { [imageId]: {
  RectangleROI: tool(annotation({ label: 'effusion, right', handles: handles([3, 5], [20, 5], [3, 30], [20, 30]) },
    { area: 106.25, perimeter: 42, max: 900, mean: 500, stdDev: 20, areaUnit: 'mm²', modalityUnit: '' },
    { finding: code('60046008', 'SCT', 'Pleural effusion'), findingSites: lung })),
  Length: tool(annotation({ label: 'a scar', handles: handles([1, 2], [31, 42]) }, { length: 25, unit: 'mm' })),
  Bidirectional: tool(annotation({ handles: handles([10, 10], [30, 10], [20, 5], [20, 15]) },
    { length: 10, width: 5, unit: 'mm' }, { finding: nodule, findingSites: lung })),
  EllipticalROI: tool(annotation({ handles: handles([24, 20], [24, 40], [18, 30], [30, 30]) },
    { area: 47.12, areaUnit: 'mm²', max: 900, min: 100, mean: 500, stdDev: 20, modalityUnit: '' }, { finding: nodule })),
  CircleROI: tool(annotation({ label: 'round', handles: handles([24, 32], [29, 32]) },
    { area: 19.63, areaUnit: 'mm²', radius: 2.5, radiusUnit: 'mm', max: 900, min: 100, mean: 500, stdDev: 20, modalityUnit: '' })),
  ArrowAnnotate: tool(annotation({ text: 'look here', label: 'look here',
    handles: { ...handles([40, 50], [44, 60]), arrowFirst: true, textBox: { hasMoved: true, worldPosition: at([46, 62])[0] } } }, {})),
  Probe: tool(annotation({ label: 'dense', handles: handles([12, 50]) }, { value: 700 })),
  PlanarFreehandROI: tool(annotation({ label: 'open line',
    contour: { polyline: at([2, 60], [10, 55], [20, 60]), closed: false }, handles: { points: [] } },
    { length: 10, areaUnit: 'mm²', modalityUnit: '' }), annotation({ label: 'closed line',
    contour: { polyline: at([30, 40], [45, 40], [40, 55]), closed: true }, handles: handles([30, 40], [45, 40], [40, 55]) },
    { area: 28.1, perimeter: 24, areaUnit: 'mm²', modalityUnit: '' })),
  Angle: tool(annotation({ label: 'angle', handles: handles([5, 20], [15, 30], [25, 20]) }, { angle: 90 })),
} };
const report = MeasurementReport.generateReport(state, provider, {});
writeFileSync(process.argv[2], Buffer.from(dcmjs.data.datasetToBuffer(report.dataset)));
process.exit(0);
