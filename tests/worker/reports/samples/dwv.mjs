// Annotations of every shape, on a synthetic radiograph of 48 x 64 pixels, written as a report:
// node dwv.mjs dwv.dcm
import { writeFileSync } from 'node:fs';
import { Annotation, AnnotationGroup, AnnotationGroupFactory, Circle, DicomCode, DicomWriter, Ellipse, Point2D, Point3D,
  Protractor, Rectangle, ROI } from 'dwv';

const code = (value, scheme, meaning) => {
  const made = new DicomCode(meaning);
  Object.assign(made, { value, schemeDesignator: scheme });
  return made;
};
const at = (x, y) => new Point2D(x, y);
const finding = code('121071', 'DCM', 'Finding');
const site = code('363698007', 'SCT', 'Finding site');
const group = new AnnotationGroup();
let number = 0;
function add(shape, quantification, textExpr, meta = [], more = {}) {
  const annotation = new Annotation();
  number += 1;
  Object.assign(annotation, { trackingId: `dwv-${number}`, trackingUid: `2.25.16${number}`, mathShape: shape,
    referencedSopClassUID: '1.2.840.10008.5.1.4.1.1.1', referencedSopInstanceUID: '2.25.153', quantification, textExpr },
  more);
  for (const [concept, value] of meta) annotation.addMetaItem(concept, value);
  group.add(annotation);
}
add(new Rectangle(at(3, 5), at(20, 30)), { surface: { value: 1.0625, unit: 'unit.cm2' } }, '{surface}',
  [[finding, code('60046008', 'SCT', 'Pleural effusion')], [site, code('39607008', 'SCT', 'Lung structure')]],
  { labelPosition: at(22, 8), planePoints: [new Point3D(0, 0, 0), new Point3D(1, 0, 0)] });
add(new Circle(at(24, 32), 5), { radius: { value: 2.5, unit: 'unit.mm' } }, '{radius}');
add(new Ellipse(at(24, 30), 6, 10), { a: { value: 3, unit: 'unit.mm' }, b: { value: 5, unit: 'unit.mm' } }, 'oval');
add(new ROI([at(30, 40), at(45, 40), at(40, 55)]), undefined, 'a region');
add(new Protractor([at(5, 20), at(15, 30), at(25, 20)]), { angle: { value: 90, unit: 'unit.degree' } }, '{angle}');
add(at(40, 50), undefined, 'look here', [], { referencePoints: [at(44, 60)] });

for (const [key, value] of Object.entries({ Modality: 'SR', PatientName: 'Test^Chest', PatientID: 'TEST-1',
  PatientBirthDate: '19700101', PatientSex: 'O', StudyDate: '20250102', StudyTime: '101112', StudyInstanceUID: '2.25.151',
  StudyID: '1', SeriesInstanceUID: '2.25.155', SeriesNumber: '2', SOPInstanceUID: '2.25.156', InstanceNumber: '1',
  CurrentRequestedProcedureEvidenceSequence: { value: [{ StudyInstanceUID: '2.25.151',
    ReferencedSeriesSequence: { value: [{ SeriesInstanceUID: '2.25.152' }] } }] } })) group.setMetaValue(key, value);
const elements = new AnnotationGroupFactory().toDicom(group);
writeFileSync(process.argv[2], Buffer.from(new DicomWriter().getBuffer(elements)));
